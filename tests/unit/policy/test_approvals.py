"""Approvals: who agreed to which meaning, that it is asked for, and that it can't outlive a change."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.bundles import bundle_of, policy, write
from usageaudit.policy import Approval, load_bundle
from usageaudit.policy.approvals import entries, recorded
from usageaudit.policy.approving import appended, approve_policy
from usageaudit.policy.report import Report
from usageaudit.policy.yamltree import TextFile, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

PACK = "azure-openai-code-of-conduct"
BY = ("--by", "C. Officer", "--reason", "Board, 4 May")
DIGEST = "0" * 64
ONE = Approval("b/a", 1, DIGEST, "me", "why", 1_767_225_600_000_000)
ENTRY = {
    "policy": "b/a", "version": 1, "digest": DIGEST, "approved_by": "me", "reason": "why", "date": "2026-01-01",
}  # fmt: skip


def _bundle(manifest: str = "name: b", **more: str) -> None:
    files: dict[str, str | bytes] = {"bundle.yaml": manifest, "policies/a.yaml": policy(pack="b"), **more}
    write(Path("b"), files)


def _warnings(command: Command) -> int:
    code, output, errors = command("check", "b")
    assert (code, len(output.splitlines())) == (0, 1)
    return errors.count("nobody approved")


def test_an_approval_is_appended_and_holds_until_the_meaning_changes(command: Command) -> None:
    """Without approvals.yaml nothing is asked; with it an enforced policy that changed since is named, with whose."""
    _bundle()
    assert _warnings(command) == 0
    code, output, errors = command("approve", "b/a", "b", *BY)
    assert (code, errors) == (0, "")
    printed = json.loads(output)
    (written,) = yaml.safe_load(Path("b/approvals.yaml").read_text())
    assert list(printed) == ["policy_id", "version", "digest", "approved_by", "reason", "date"]
    assert (written["policy"], written["digest"], written["reason"]) == ("b/a", printed["digest"], "Board, 4 May")
    assert _warnings(command) == 0
    write(Path("b"), {"policies/a.yaml": policy(pack="b", severity="low")})
    _, _, errors = command("check", "b")
    assert "b/policies/a.yaml:1:1: warning: b/a is enforced, and nobody approved what it means now" in errors
    assert "C. Officer approved version 1 on " in errors
    assert "usageaudit policy approve b/a --by NAME --reason TEXT" in errors
    command("approve", "b/a", "b", "--by", "D. Puty", "--reason", "severity agreed")
    assert _warnings(command) == 0
    first, second = load_bundle(["b"]).approvals
    assert (first.approved_by, second.approved_by) == ("C. Officer", "D. Puty")
    assert [one.current for one in recorded(load_bundle(["b"]))] == [False, True]


def test_the_digest_is_that_of_the_lock(command: Command) -> None:
    """Lock and approval speak of the same meaning, so that one can be checked against the other."""
    _bundle()
    command("lock", "b")
    _, output, _ = command("approve", "b/a", "b", *BY)
    assert (
        yaml.safe_load(Path("b/policy.lock").read_text())["policies"]["b/a"]["digest"] == json.loads(output)["digest"]
    )
    assert command("lock", "b", "--check")[0] == 0


def test_the_same_approval_twice_is_one(command: Command) -> None:
    """Who approved a meaning before adds nothing by doing so again."""
    _bundle()
    command("approve", "b/a", "b", *BY)
    before = Path("b/approvals.yaml").read_text()
    code, _, errors = command("approve", "b/a", "b", "--by", "C. Officer", "--reason", "again")
    assert code == 0
    assert "already; nothing is written" in errors
    assert Path("b/approvals.yaml").read_text() == before


def test_approvals_given_at_once_are_all_kept(command: Command, tmp_path: Path) -> None:
    """Who approves at the same time as others overwrites nobody."""
    _bundle()
    names = [f"officer {number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        found = pool.map(lambda who: approve_policy(str(tmp_path / "b"), "b/a", approved_by=who, reason="r"), names)
        assert all(added for _, added in found)
    assert sorted(one.approved_by for one in load_bundle([tmp_path / "b"]).approvals) == names
    assert sorted(os.listdir(tmp_path / "b")) == ["approvals.yaml", "bundle.yaml", "policies"]  # noqa: PTH208  names alone
    assert _warnings(command) == 0


@pytest.mark.parametrize("stage", ["draft", "shadow", "retired"])
def test_only_enforced_policies_need_an_approval(command: Command, stage: str) -> None:
    """What never alerts may be tried without one."""
    _bundle(**{"approvals.yaml": "[]", "policies/a.yaml": policy(pack="b", stage=stage)})
    assert _warnings(command) == 0


def test_where_approvals_are_required_their_lack_is_an_error(command: Command) -> None:
    """With `require_approvals` the check ends with 2, also without approvals.yaml; tests and diff still work."""
    _bundle("name: b\nrequire_approvals: true")
    code, output, errors = command("check", "b")
    assert (code, output) == (2, "")
    assert "b/policies/a.yaml:1:1: b/a is enforced, and nobody approved" in errors
    assert command("test", "b")[0] == command("diff", "b", "b")[0] == 0
    assert command("approve", "b/a", "b", *BY)[0] == 0
    assert command("check", "b")[0] == 0


def test_policies_of_used_packs_are_approved_by_who_uses_them(command: Command) -> None:
    """A bundle that asks for approvals asks for those of the packs that it uses, as they hold in it."""
    write(Path("b"), {"bundle.yaml": f"name: b\nuses: [{PACK}]", "approvals.yaml": "[]"})
    assert _warnings(command) == 6
    name = f"{PACK}/social-scoring"
    command("approve", name, "b", *BY)
    assert _warnings(command) == 5
    write(Path("b"), {"overrides.yaml": json.dumps({name: {"severity": "low"}})})
    assert _warnings(command) == 6
    write(Path("c"), {"bundle.yaml": f"name: c\nuses: [{PACK}, ../b]"})
    assert command("check", "c")[2].count("nobody approved") == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ("b/b", "b", *BY),
        ("b/a", PACK, *BY),
        ("b/a", "nowhere", *BY),
        ("b/a", "b", "--by", " ", "--reason", "x"),
        ("b/a", "b", "--by", "x", "--reason", ""),
        ("b/a", "b", "--by", "x" * 3000, "--reason", "x"),
        ("b/a", "b", "--by", "x"),
        ("b/a", "b", "--reason", "x"),
    ],
)
def test_an_approval_needs_a_policy_a_name_and_a_reason(command: Command, arguments: tuple[str, ...]) -> None:
    """What can't be approved is said in a line, with exit code 2, and nothing is written."""
    _bundle()
    code, output, errors = command("approve", *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert not Path("b/approvals.yaml").exists()


BROKEN = [
    ("{}", ":1:1: approvals.yaml is a list of approvals"),
    ("", ":1:1: the file is empty"),
    ("- x", ":1:3: an approval is a mapping"),
    (json.dumps([{**ENTRY, "digest": "abc"}]), "digest is a SHA-256 of 64 hex digits"),
    (json.dumps([{**ENTRY, "version": "1"}]), "version is a number"),
    (json.dumps([{**ENTRY, "date": "yesterday"}]), "date is a date such as"),
    (json.dumps([{**ENTRY, "date": "1900-01-01"}]), "date lies from 1970"),
    (json.dumps([{**ENTRY, "approved": "x"}]), "did you mean approved_by?"),
    *((json.dumps([{k: v for k, v in ENTRY.items() if k != key}]), f"an approval needs {key}") for key in ENTRY),
    ("- &a {policy: x}", "anchors (&name) are not read"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=range(len(BROKEN)))
def test_broken_approvals_refuse_the_bundle_with_places(command: Command, text: str, message: str) -> None:
    """Whatever is wrong with approvals.yaml is an error of the bundle, and `approve` does not write over it."""
    _bundle(**{"approvals.yaml": text})
    for arguments in (("check", "b"), ("approve", "b/a", "b", *BY)):
        code, output, errors = command(*arguments)
        assert (code, output) == (2, "")
        assert "b/approvals.yaml:" in errors
        assert message in errors
    assert Path("b/approvals.yaml").read_text() == text


def test_approvals_of_unknown_policies_are_named_once(command: Command) -> None:
    """An id that the bundle does not have brings one warning, with what was likely meant."""
    entries = [{**ENTRY, "policy": "b/aa", "version": version} for version in (1, 2)]
    _bundle(**{"approvals.yaml": "".join(f"- {json.dumps(one)}\n" for one in entries)})
    assert command("approve", "b/a", "b", *BY)[0] == 0
    code, _, errors = command("check", "b")
    assert (code, errors.count("no policy of this bundle")) == (0, 1)
    assert "b/approvals.yaml:1:" in errors
    assert "approved is b/aa, which is no policy of this bundle" in errors
    assert "did you mean b/a?" in errors


@pytest.mark.parametrize("manifest", ["name: b\nrequire_approvals: yes", 'name: b\nrequire_approvals: "true"'])
def test_whether_approvals_are_required_is_true_or_false(command: Command, manifest: str) -> None:
    """A setting that guards something is not guessed at."""
    _bundle(manifest)
    code, _, errors = command("check", "b")
    assert code == 2
    assert "b/bundle.yaml:2:20: require_approvals is true or false" in errors


TEXT = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()) and text.isprintable())
LAYOUTS = [
    None,
    "[]",
    "# head\n[]  # nothing yet\n",
    "# head\n" + json.dumps([ENTRY]).replace('[{"policy"', '- {"policy"').replace("}]", "}"),
    "  - policy: b/a\n    version: 1\n    digest: '" + DIGEST + "'\n"
    "    approved_by: me\n    reason: why\n    date: 2026-01-01\n# end\n",
]


@settings(deadline=None)
@given(st.sampled_from(LAYOUTS), st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_what_was_there_stays_and_what_is_new_is_read_back(text: str | None, new: list[tuple[str, str]]) -> None:
    """However a list of entries is laid out, appending keeps it; any name and reason come back as they were."""
    before = [] if text is None or "[]" in text else [ONE]
    found = [Approval("b/a", 2, DIGEST, by, reason, ONE.date) for by, reason in new]
    for one in found:
        text = appended(text, one)
    tree = read_yaml(TextFile.of("approvals.yaml", text or ""), Report())
    assert tree is not None
    assert list(entries(tree, Report())) == before + found
    assert yaml.safe_load(text or "")[-1]["approved_by"] == found[-1].approved_by


def test_a_list_that_can_not_be_appended_to_is_left_alone(command: Command) -> None:
    """Of a list in brackets an entry below would make something else: it is refused, and nothing is written."""
    _bundle(**{"approvals.yaml": json.dumps([ENTRY])})
    code, _, errors = command("approve", "b/a", "b", *BY)
    assert code == 2
    assert "rewrite it" in errors
    assert Path("b/approvals.yaml").read_text() == json.dumps([ENTRY])


def test_approvals_are_in_the_archive_and_in_the_hash() -> None:
    """What the store keeps of a bundle has its approvals, and a bundle with another approval is another bundle."""
    bundle = bundle_of(policy(), approvals=json.dumps([ENTRY]))
    assert bundle.approvals == (ONE,)
    assert bundle.hash != bundle_of(policy()).hash
