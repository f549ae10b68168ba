"""Loading a bundle: what it holds, how parts come together, and that all that is wrong is said at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.policy.bundles import TIME, bundle_of, data_of, policy, write
from usageaudit.errors import BundleError
from usageaudit.policy import InvalidBundle, RegistryEntry, bundle_from_archive, compile_judge, load_bundle

if TYPE_CHECKING:
    from pathlib import Path

PACK = "azure-openai-code-of-conduct"


def _refused(*policies: str, **files: str) -> str:
    with pytest.raises(InvalidBundle) as refused:
        bundle_of(*policies, **files)
    return str(refused.value)


def _folder(path: Path, name: str, *policies: str, **files: str) -> Path:
    texts = {"bundle.yaml": f"name: {name}\n"}
    texts |= {f"policies/{number}.yaml": text for number, text in enumerate(policies)}
    return write(path, texts | {f"{key}.yaml": text for key, text in files.items()})


def test_policy_file_is_read_as_it_is_documented() -> None:
    """Every key of the documented policy file arrives in the model."""
    bundle = bundle_of(
        """
        id: test/real-time
        title: No real-time facial recognition
        description: what the source says
        basis: [{document: Code of conduct, clause: "3", as_of: 2024-05-01}]
        severity: critical
        stage: shadow
        applies: 'model.provider in lists.azure'
        let:
          police: 'actor.sector == "law_enforcement"'
          here: police && actor.jurisdiction == "FR"
        revisions:
          - version: 1
            to: 2024-05-01
            when: here
          - version: 2
            from: 2024-05-01T00:00:00Z
            when: |
              purpose.use_case == "facial_recognition"
                && police
        on_unknown: violate
        message: "{actor.organization} ran it"
        evidence: [actor.organization, model.name]
        exceptions:
          - {id: EX-17, when: here, approved_by: me, reason: why, expires: 2026-12-31}
        alert: {dedup_by: [actor.organization, model.name], for: 1d12h}
        tests:
          - {name: t, expect: violation, missing: [purpose.use_case], event: {actor: {sector: law_enforcement}}}
        """.replace("\n        ", "\n"),
        lists="azure: [test]",
    )
    [read] = bundle.policies
    assert (read.id, read.title, read.description) == (
        "test/real-time", "No real-time facial recognition", "what the source says",
    )  # fmt: skip
    assert [(b.document, b.clause, b.as_of) for b in read.basis] == [("Code of conduct", "3", "2024-05-01")]
    assert (read.severity, read.stage, read.on_unknown) == ("critical", "shadow", "violate")
    change = 1_714_521_600_000_000
    assert [(r.version, r.start, r.end) for r in read.revisions] == [(1, None, change), (2, change, None)]
    assert list(read.lets) == ["police", "here"]
    assert read.evidence == (("actor", "organization"), ("model", "name"))
    [exception] = read.exceptions
    assert (exception.id, exception.approved_by, exception.reason) == ("EX-17", "me", "why")
    assert exception.expires == 1_798_761_600_000_000  # 2027-01-01T00:00:00Z
    assert read.alert is not None
    assert (read.alert.dedup_by, read.alert.window) == (read.evidence[:1] + read.evidence[1:], 36 * 3_600_000_000)
    [test] = read.tests
    assert (test.name, test.expect, test.missing, test.time) == ("t", "violation", ("purpose.use_case",), change)
    assert bundle.name == "test"
    assert bundle.policy("test/real-time") is read
    assert bundle.policy("test/other") is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": "test"}, "no id of a policy of this bundle"),
    ({"id": "other/a"}, "the bundle's name: test/a"),
    ({"id": "test/A b"}, "test/a-b"),
    ({"id": "test/a/b"}, "no id"),
    ({"severity": "hihg"}, "did you mean high?"),
    ({"stage": "on"}, "stage is one of draft, shadow, enforce, retired"),
    ({"widow": {"kind": "event_count"}}, "did you mean window?"),
    ({"exeptions": []}, "did you mean exceptions?"),
    ({"applies": "actor.sectr == 'x'"}, "did you mean actor.sector?"),
    ({"applies": True}, "applies is a text"),
    ({"let": {"actor": "true"}}, "actor is a name of the event"),
    ({"let": {"a b": "true"}}, "a b is no name"),
    ({"let": {"one": "two", "two": "one"}}, "two is not defined yet"),
    ({"let": {"one": "one && has(input)"}}, "one is not defined yet"),
    ({"let": ["x"]}, "let is a mapping"),
    ({"revisions": []}, "at least one revision"),
    ({"revisions": {"when": "true"}}, "revisions is a list"),
    ({"revisions": [{"version": 0, "when": "true"}]}, "version is a whole number from 1 on"),
    ({"revisions": [{"version": 1.5, "when": "true"}]}, "version is a whole number from 1 on"),
    ({"revisions": [{"version": 1}]}, "a revision needs when"),
    ({"revisions": [{"when": "true", "from": "2024-05-01"}, {"when": "true"}]}, "a revision needs version"),
    ({"revisions": [{"when": "has(input)", "from": "2024-05-01T00:00:00"}]}, "a time with a zone"),
    ({"revisions": [{"when": "has(input)", "from": "2024-02-30"}]}, "a date such as"),
    ({"revisions": [{"when": "has(input)", "from": "2024-02-02", "to": "2024-02-02"}]}, "ends before it begins"),
    (
        {"revisions": [{"version": 1, "when": "has(input)", "to": "2024-02-02"}, {"version": 2, "when": "has(input)"}]},
        "the revision overlaps with version 1",
    ),
    (
        {
            "revisions": [
                {"version": 1, "when": "has(input)", "to": "2024-02-02"},
                {"version": 1, "when": "has(input)", "from": "2024-02-02"},
            ]
        },
        "version 1 is here twice",
    ),
    ({"on_unknown": "alert"}, "on_unknown is one of"),
    ({"message": "{actor.organisation}"}, "did you mean actor.organization?"),
    ({"message": "{actor}"}, "actor in message is an object"),
    ({"message": "{content.signals}"}, "no short form"),
    ({"message": "{labels}"}, "no short form"),
    ({"message": "{"}, "a brace without its other half"),
    ({"message": "}"}, "a brace without its other half"),
    ({"evidence": ["actor.sectr"]}, "did you mean actor.sector?"),
    ({"evidence": ["actor.x"]}, "actor has actor."),
    ({"evidence": "actor.sector"}, "evidence is a list"),
    ({"exceptions": [{"id": "x", "when": "true"}]}, "an exception needs approved_by"),
    ({"exceptions": [{"id": "x", "when": "nope"}]}, "unknown field nope"),
    ({"alert": {"dedup_by": ["x"]}}, "unknown field x in dedup_by"),
    ({"alert": {"for": "24"}}, "for is a duration such as 30m, 24h or 7d"),
    ({"basis": [{"clause": "x"}]}, "a basis needs document"),
    ({"basis": [{"document": "x", "as_of": "May"}]}, "as_of is a date"),
    ({"tests": [{"name": "t", "expect": "bad", "event": {}}]}, "expect is one of violation"),
    ({"tests": [{"name": "t", "expect": "ok"}]}, "a test needs event"),
    ({"tests": [{"name": "t", "expect": "ok", "event": {}, "missing": ["actor.sectr"]}]}, "did you mean actor.sector?"),
    ({"tests": [{"name": "t", "expect": "ok", "event": {"actor": {"sectr": "x"}}}]}, "did you mean sector?"),
    ({"tests": [{"name": "t", "expect": "ok", "event": {"usage": {"input_tokens": -1}}}]}, "usage.input_tokens"),
    ({"tests": [{"name": "t", "expect": "ok", "event": {"actor": "x"}}]}, "not valid: actor"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_wrong_key_is_an_error_that_helps(change: dict[str, Any], message: str) -> None:
    """Each thing wrong with a policy file is an error that names the place and what to do."""
    text = _refused(policy(**change))
    assert message in text
    assert "test/policies/0000.yaml:" in text


HALVES = [{"version": 1, "when": "has(input)", "to": "2024-02-02"}, {"version": 2, "when": "has(input)"}]
FOLLOWED: list[tuple[dict[str, Any], str]] = [
    ({"version": 0, "from": "2024-02-02"}, "version is a whole number from 1 on"),
    ({"version": None, "from": "2024-02-02"}, "a revision needs version"),
    ({"from": "2024-03-03", "to": "2024-01-01"}, "the revision ends before it begins"),
    ({"from": "2024-02-30"}, "from is a date such as"),
]


@pytest.mark.parametrize(("change", "message"), FOLLOWED, ids=[message for _, message in FOLLOWED])
def test_one_mistake_in_a_revision_is_one_error(change: dict[str, Any], message: str) -> None:
    """A version or a range that is wrong is not compared with those of the other revisions."""
    text = _refused(policy(revisions=[HALVES[0], HALVES[1] | change]))
    assert "the policies have an error:" in text
    assert message in text


def test_overlap_with_a_revision_without_version_is_found() -> None:
    """That a version is missing does not hide that the ranges overlap."""
    text = _refused(policy(revisions=[HALVES[0] | {"version": 0}, HALVES[1] | {"from": "2024-01-01"}]))
    assert "version is a whole number" in text
    assert "the revision overlaps with another one" in text


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Errors of all files, and several of one file, come in one BundleError, by file and line."""
    folder = _folder(
        tmp_path / "b",
        "b",
        policy("actor.sectr == 'x' || modl.name == 'y'", pack="b", severity="huge"),
        policy("1", pack="b", name="c"),
        "not: [closed",
        lists="a: [NO]",
        registry="app: {ownr: x}",
        overrides="b/zzz: {}",
    )
    with pytest.raises(BundleError) as refused:
        load_bundle([folder])
    text = str(refused.value)
    for part in (
        "actor.sectr", "modl.name", "huge", "must be true or false", "not YAML", "lists.yaml:1:5", "ownr", "b/zzz",
    ):  # fmt: skip
        assert part in text
    assert isinstance(refused.value, InvalidBundle)
    places = [(one.file, one.line, one.column) for one in refused.value.diagnostics]
    assert places == sorted(places)


def test_broken_sub_condition_is_one_error() -> None:
    """A sub-condition with an error is known to those that name it, which are not blamed for it."""
    text = _refused(policy("police && here", let={"police": "actor.sectr == 'x'", "here": "!police && has(input)"}))
    assert "the policies have an error:" in text
    assert "actor.sectr" in text


def test_broken_list_file_does_not_make_its_lists_unknown() -> None:
    """Where lists.yaml can't be read, conditions are not blamed for the lists that are then missing."""
    text = _refused(policy("model.name in lists.models || actor.sectr == 'x'"), lists="models: [a")
    assert "not YAML" in text
    assert "actor.sectr" in text
    assert "unknown list" not in text


@pytest.mark.parametrize(
    ("entries", "column", "message"),
    [
        ("[0.1, 1e-9]", 10, "lists.k is a list of numbers, and 1e-9 is a text to YAML"),
        ("[1e9, 1]", 5, "1e9 is a text to YAML"),
        ("[1, 2.5, x]", 13, "lists.k is a list of numbers, and x is none"),
        ('[1, "1e9"]', 8, "1e9 is none"),
        ("[1, null]", 8, "null is none"),
        ("[1, [2]]", 8, "an entry of lists.k is a number"),
        ("[x, 1.5]", 8, "an entry of lists.k is a text, and 1.5 is none"),
        ("[1e-9x, 1]", 12, "a text, and 1 is none"),
    ],
)
def test_entry_of_another_type_than_the_first_is_blamed(entries: str, column: int, message: str) -> None:
    """Of a list with several types the entry that differs from the first is shown, or one that is no number to YAML."""
    text = _refused(policy(), lists=f"k: {entries}")
    assert "the policies have an error:" in text
    assert f"lists.yaml:1:{column}: " in text
    assert message in text


@pytest.mark.parametrize("written", ["1e-9", "1e9", "-12E5", "1.5e3", "1.e3"])
def test_number_that_yaml_takes_for_a_text_is_shown_as_it_is_written(written: str) -> None:
    """The advice for 1e-9 and its like is a number of that value."""
    text = _refused(policy(), lists=f"k: [0.5, {written}]")
    advice = text.rsplit("a number is written ", 1)[1].split()[0]
    assert bundle_of(policy(), lists=f"k: [0.5, {advice}]").lists["k"] == (0.5, float(written))


def test_warnings_do_not_refuse_a_bundle() -> None:
    """What is only doubtful is kept as a warning with its place."""
    bundle = bundle_of(policy('actor.sector != "x"', stage="retired"))
    [warning] = bundle.warnings
    assert warning.severity == "warning"
    assert warning.file == "test/policies/0000.yaml"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "a folder without bundle.yaml"),
        ({"bundle.yaml": "name: x"}, "the bundle has no policy and uses none"),
        ({"bundle.yaml": "title: x"}, "unknown key title in bundle.yaml"),
        ({"bundle.yaml": "name: Our Rules"}, "lower case letters"),
        ({"bundle.yaml": "name: x\nuses: [hygene]"}, "did you mean hygiene?"),
        ({"bundle.yaml": "name: x\nuses: [.]"}, "uses this bundle in turn"),
        ({"bundle.yaml": "name: hygiene\nuses: [hygiene]"}, "two bundles are called hygiene"),
        ({"bundle.yaml": "name: x", "policies/a.yml": "id: x/a"}, "ends in .yaml"),
    ],
)
def test_folder_that_is_no_bundle_is_refused(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    """A folder that lacks what a bundle needs is refused with what to do."""
    with pytest.raises(InvalidBundle, match=message):
        load_bundle([write(tmp_path / "x", files) if files else tmp_path])


def test_unknown_pack_is_refused_with_the_packs_there_are() -> None:
    """A source that is neither a pack nor a folder names what was likely meant, or all packs."""
    with pytest.raises(InvalidBundle, match=f"did you mean {PACK}"):
        load_bundle(["azure-openai-code-of-conducts"])
    with pytest.raises(InvalidBundle, match="packs are azure-openai-code-of-conduct, eu-ai-act-article-5, hygiene"):
        load_bundle(["zzzzzz"])
    with pytest.raises(InvalidBundle, match="no policies are named"):
        load_bundle([])


def test_file_beside_the_others_that_is_not_read_is_a_warning(tmp_path: Path) -> None:
    """A misspelt lists.yaml would silently be left out, so it is named; hidden files and other kinds are not."""
    folder = _folder(tmp_path / "b", "b", policy(pack="b", stage="retired"), list="a: [x]")
    write(folder, {".hidden.yaml": "x", "README.md": "x", "policies/.draft.yaml": "[", "policies/notes.txt": "["})
    [warning] = load_bundle([folder]).warnings
    assert (warning.file, warning.hint) == (f"{folder}/list.yaml", "did you mean lists.yaml?")


def test_same_policy_twice_is_refused(tmp_path: Path) -> None:
    """Two files with one id are an error that names the first."""
    folder = _folder(tmp_path / "b", "b", policy(pack="b"), policy(pack="b"))
    with pytest.raises(InvalidBundle, match=r"policy b/a is here twice(.|\n)*policies/0.yaml"):
        load_bundle([folder])


def test_folders_below_policies_are_read(tmp_path: Path) -> None:
    """Policies may be sorted into folders; links to folders are not followed, so a loop does no harm."""
    folder = write(tmp_path / "b", {"bundle.yaml": "name: b", "policies/x/y/a.yaml": policy(pack="b")})
    (folder / "policies" / "loop").symlink_to(folder / "policies")
    assert [one.id for one in load_bundle([folder]).policies] == ["b/a"]


def test_pipe_as_a_policy_file_is_refused(tmp_path: Path) -> None:
    """What is no regular file is not opened: a named pipe would be waited for forever."""
    folder = _folder(tmp_path / "b", "b", policy(pack="b"))
    os.mkfifo(folder / "policies" / "pipe.yaml")
    with pytest.raises(InvalidBundle, match="is no regular file"):
        load_bundle([folder])


def test_bundle_adapts_the_packs_it_uses(tmp_path: Path) -> None:
    """Overrides change stage, severity, exceptions and alert of a used pack's policy, and a list replaces its own."""
    exception = {"id": "EX", "when": "by_us_police", "approved_by": "a", "reason": "b", "expires": "2030-01-01"}
    clause = f"{PACK}/us-police-facial-recognition"
    changed = {"severity": "low", "stage": "shadow", "alert": {"dedup_by": ["actor.id"], "for": "1h"}}
    folder = _folder(
        tmp_path / "acme",
        "acme",
        policy("model.name in lists.mobile_cameras", pack="acme"),
        lists="mobile_cameras: [periscope]",
        overrides=json.dumps({clause: {**changed, "exceptions": [exception]}}),
    )
    (folder / "bundle.yaml").write_text(f"name: acme\nuses: [{PACK}]\n")
    bundle = load_bundle([folder])
    assert bundle.name == "acme"
    assert bundle.lists["mobile_cameras"] == ("periscope",)
    assert bundle.lists["azure_openai"] == ("azure.ai.openai",)
    overridden = bundle.policy(clause)
    assert overridden is not None
    assert (overridden.severity, overridden.stage) == ("low", "shadow")
    assert [one.id for one in overridden.exceptions] == ["EX"]
    assert overridden.alert is not None
    assert overridden.alert.dedup_by == (("actor", "id"),)
    data = data_of(
        actor={"sector": "law_enforcement", "jurisdiction": "US"},
        purpose={"use_case": "facial_recognition"},
        input={"capture": {"device": "periscope", "timing": "real_time", "setting": "in_the_wild"}},
    )
    verdicts = compile_judge(bundle)(data, TIME)
    assert [one.exception_id for one in verdicts.exempted] == ["EX"]
    assert [one.policy_id for one in verdicts.violated] == [f"{PACK}/real-time-facial-recognition-on-mobile-cameras"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("[]", "is a mapping of policy ids"),
        ("hygiene/use-case-mising: {stage: draft}", "did you mean hygiene/use-case-missing?"),
        ("hygiene/use-case-missing: {stage: drft}", "did you mean draft?"),
        ("hygiene/use-case-missing: {title: x}", "unknown key title in an override"),
        ("acme/a: {stage: draft}", "change it in its own file"),
        (
            "hygiene/use-case-missing: {exceptions: [{id: x, when: nope, approved_by: a, reason: b, expires: 2030}]}",
            "unknown field nope",
        ),
    ],
)
def test_wrong_override_is_refused(tmp_path: Path, overrides: str, message: str) -> None:
    """An override of an unknown policy, or of what can't be overridden, is an error."""
    folder = _folder(tmp_path / "acme", "acme", policy(pack="acme"), overrides=overrides)
    (folder / "bundle.yaml").write_text("name: acme\nuses: [hygiene]\n")
    with pytest.raises(InvalidBundle) as refused:
        load_bundle([folder])
    assert message in str(refused.value)


def test_several_sources_make_one_bundle(tmp_path: Path) -> None:
    """Sources are joined, each part once, whatever the order, with one hash."""
    folder = _folder(tmp_path / "acme", "acme", policy(pack="acme"))
    (folder / "bundle.yaml").write_text("name: acme\nuses: [hygiene]\n")
    one, other = load_bundle(["hygiene", str(folder)]), load_bundle([folder, "hygiene"])
    assert (one.name, other.name) == ("hygiene+acme", "acme+hygiene")
    assert one.hash == other.hash
    assert [p.id for p in one.policies] == [p.id for p in other.policies]
    assert len(load_bundle([PACK, "hygiene"]).policies) > len(load_bundle([PACK]).policies)


def test_unrelated_lists_of_one_name_are_refused(tmp_path: Path) -> None:
    """Where two sources define a list differently and neither uses the other, nobody could say which one counts."""
    one = _folder(tmp_path / "one", "one", policy(pack="one"), lists="x: [a]")
    two = _folder(tmp_path / "two", "two", policy(pack="two"), lists="x: [b]")
    with pytest.raises(InvalidBundle, match=r"lists.x is defined differently by one"):
        load_bundle([one, two])
    (two / "lists.yaml").write_text("x: [a]")
    assert load_bundle([one, two]).lists == {"x": ("a",)}


def test_registry_is_read_by_the_events_application() -> None:
    """Conditions see the entry of the event's application, and unknown where it is not registered or silent."""
    registry = "a: {sector: x, approved_use_cases: []}\nb: {owner: o}"
    bundle = bundle_of(policy('registry.sector == "x" && size(registry.approved_use_cases) == 0'), registry=registry)
    assert bundle.registry == {"a": RegistryEntry(sector="x", approved_use_cases=()), "b": RegistryEntry(owner="o")}
    judge = compile_judge(bundle)
    assert len(judge(data_of(application={"name": "a"}), TIME).violated) == 1
    for name in ("b", "unregistered"):
        [open_] = judge(data_of(application={"name": name}), TIME).indeterminate
        assert open_.missing_fields == ("registry.approved_use_cases", "registry.sector")


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    """Place, order and line ends of the files do not change a bundle's hash; any word in any of them does."""
    files: dict[str, str | bytes] = {
        "bundle.yaml": "name: b\n",
        "policies/a.yaml": policy(pack="b"),
        "policies/c.yaml": policy(pack="b", name="c"),
        "lists.yaml": "x: [a]\n",
        "registry.yaml": "app: {owner: o}\n",
        "policy.lock": "x",
        "approvals.yaml": "[]",
    }
    original = load_bundle([write(tmp_path / "one", files)]).hash
    assert len(bytes.fromhex(original)) == 32
    other_order = dict(reversed(files.items()))
    windows = {path: str(text).replace("\n", "\r\n") for path, text in other_order.items()}
    assert load_bundle([write(tmp_path / "two", windows)]).hash == original
    for path, text in files.items():
        folder = write(tmp_path / f"other-{path.replace('/', '-')}", {**files, path: f"{text!s}\n# more\n"})
        assert load_bundle([folder]).hash != original


def test_archive_gives_the_same_bundle(tmp_path: Path) -> None:
    """A bundle that was kept judges as the one that was loaded, and has its hash; the bytes are the same each time."""
    folder = _folder(tmp_path / "acme", "acme", policy('model.name == "x"', pack="acme"), lists="use_cases: [x]")
    (folder / "bundle.yaml").write_text("name: acme\nuses: [hygiene, ../other]\n")
    _folder(tmp_path / "other", "other", policy(pack="other"))
    bundle = load_bundle([folder, PACK])
    kept = bundle_from_archive(bundle.archive())
    assert (kept.hash, kept.name, kept.sources, kept.lists) == (bundle.hash, bundle.name, bundle.sources, bundle.lists)
    assert kept.archive() == bundle.archive()
    data = data_of(model={"name": "x"}, purpose={"use_case": "y"})
    assert compile_judge(kept)(data, TIME) == compile_judge(bundle)(data, TIME)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"null", b'{"format": 2}', b'{"format": 1, "sources": [], "parts": []}', b"\xff",
        b'{"format": 1, "sources": ["a"], "parts": [{"name": "b", "uses": [], "files": {}}]}',
        b'{"format": 1, "sources": ["b"], "parts": [{"name": "b", "uses": ["c"], "files": {}}]}',
        b'{"format": 1, "sources": ["b"], "parts": [{"name": "b", "uses": [], "files": []}]}',
        b'{"format": 1, "sources": ["b"], "parts": [{"name": "b", "uses": [], "files": {}}]}',
    ],
)  # fmt: skip
def test_broken_archive_is_refused(content: bytes) -> None:
    """Bytes that are no archive are a BundleError."""
    with pytest.raises(BundleError):
        bundle_from_archive(content)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_of_the_folder_is_known(tmp_path: Path) -> None:
    """A bundle from a git work tree knows the commit, and that it was changed since; one from elsewhere has none."""
    folder = _folder(tmp_path / "b", "b", policy(pack="b"))
    assert load_bundle([folder]).commit is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    head = git("rev-parse", "HEAD")
    assert load_bundle([folder]).commit == head
    (folder / "lists.yaml").write_text("x: [a]")
    assert load_bundle([folder]).commit == f"{head}-dirty"
    assert load_bundle(["hygiene"]).commit is None
    (folder / "lists.yaml").unlink()
    file = folder / "policies" / "0.yaml"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\n", b"\r\n"))
    (folder / "README.md").write_text("not of the bundle")
    assert load_bundle([folder]).commit == head
    file.write_bytes(content + b"# changed\n")
    assert load_bundle([folder]).commit == f"{head}-dirty"
    file.rename(folder / "policies" / "1.yaml")
    assert load_bundle([folder]).commit == f"{head}-dirty"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_no_program_of_the_repository_is_run(tmp_path: Path) -> None:
    """A repository that names programs to run on changed files gets none of them run by loading its policies."""
    folder = _folder(tmp_path / "b", "b", policy(pack="b"))

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    mark = tmp_path / "ran"
    for name in ("filter.x.clean", "core.fsmonitor", "filter.x.smudge", "core.pager", "diff.external"):
        git("config", name, f"sh -c 'touch {mark}; cat'")
    (folder / ".git" / "info" / "attributes").write_text("*.yaml filter=x\n")
    file = folder / "policies" / "0.yaml"
    later = file.stat().st_mtime + 10
    os.utime(file, (later, later))
    commit = load_bundle([folder]).commit
    assert commit is not None
    assert not commit.endswith("-dirty")
    assert not mark.exists()
    git("status")
    assert mark.exists()


def test_a_condition_without_revisions_is_the_only_version() -> None:
    """A `when` of the policy itself is one revision of version 1 without a range, and an error beside revisions."""
    short = "id: test/a\ntitle: a\nseverity: low\nwhen: has(purpose.use_case)\n"
    assert bundle_of(short).policies[0].revisions == bundle_of(policy()).policies[0].revisions
    assert "when beside revisions" in _refused(short + "revisions: [{version: 1, when: has(purpose.use_case)}]\n")


@pytest.mark.parametrize("wrong", ["[]", "{}", "[x]", "{x: y}"])
@pytest.mark.parametrize("key", ["when", "applies", "message", "id", "revisions: [{version: 1, when: ", "exceptions"])
def test_a_list_in_place_of_a_text_is_an_error(key: str, wrong: str) -> None:
    """No policy, revision or exception vanishes for a list or a mapping where a text belongs."""
    fields = {"id": "test/a", "title": "t", "severity": "low", "when": "has(usage)"}
    if key == "exceptions":
        text = f"[{{id: E, when: {wrong}, approved_by: me, reason: why, expires: 2026-01-01}}]"
        fields["exceptions"] = text
    elif key.startswith("revisions"):
        del fields["when"]
        fields["revisions"] = f"[{{version: 1, when: {wrong}}}]"
    else:
        fields[key] = wrong
    with pytest.raises(InvalidBundle, match="is a text, not a"):
        bundle_of("".join(f"{name}: {value}\n" for name, value in fields.items()))
