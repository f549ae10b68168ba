"""`policy lock`: a meaning that changes under an unchanged version does not go unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.bundles import bundle_of, policy, write
from usageaudit.policy.folders import shipped_packs
from usageaudit.policy.locking import disagreements, lock_of, lock_text, read_lock
from usageaudit.policy.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from usageaudit.policy.locking import Locked

    Command = Callable[..., tuple[int, str, str]]

REVISIONS = [{"version": 1, "to": "2026-01-01", "when": "has(usage)"}]
NEXT = {"version": 2, "from": "2026-01-01", "when": "has(input)"}
EXCEPTION = {"id": "E: 1 #", "when": "has(usage)", "approved_by": "me", "reason": "why", "expires": "2026-01-01"}
PACK = "azure-openai-code-of-conduct"


def _files(**policies: str) -> dict[str, str | bytes]:
    files = {f"policies/{name}.yaml": text for name, text in policies.items()}
    return {"bundle.yaml": "name: b", "lists.yaml": "some: [x]\n", "registry.yaml": "bot: {sector: s}\n", **files}


def _problems(output: str) -> list[tuple[str, str, list[str]]]:
    found = [json.loads(line) for line in output.splitlines()]
    return [(one["policy_id"], one["problem"], one["parts"]) for one in found]


def test_a_lock_is_written_once_and_agrees(command: Command) -> None:
    """`lock` writes the same text for the same policies, `--check` then agrees, and the bundle stays as it is."""
    write(
        Path("b"),
        _files(a=policy(pack="b", exceptions=[EXCEPTION]), c=policy("registry.sector == 's'", pack="b", name="c")),
    )
    assert command("lock", "b") == (0, "b/policy.lock\n", "")
    text = Path("b/policy.lock").read_text()
    locked = yaml.safe_load(text)["policies"]
    assert {name: one["version"] for name, one in locked.items()} == {"b/a": 1, "b/c": 1}
    assert {len(one["digest"]) for one in locked.values()} == {64}
    assert command("lock", "b", "--check") == (0, "", "")
    assert command("lock", "b")[0] == 0
    assert Path("b/policy.lock").read_text() == text
    assert command("check", "b")[0] == 0


@pytest.mark.parametrize(
    ("file", "text", "parts"),
    [
        ("policies/a.yaml", policy("actor.sector in lists.some && has(usage)", pack="b"), ["revisions.1.when"]),
        ("policies/a.yaml", policy("actor.sector in lists.some", pack="b", stage="draft"), ["stage"]),
        ("policies/a.yaml", policy("actor.sector in lists.some", pack="b", severity="low"), ["severity"]),
        ("lists.yaml", "some: [x, y]", ["lists.some"]),
    ],
)
def test_another_meaning_under_the_same_version_is_named(
    command: Command, file: str, text: str, parts: list[str]
) -> None:
    """A condition, a stage or an entry of a list that changes while the version stays fails the check, by policy."""
    write(Path("b"), _files(a=policy("actor.sector in lists.some", pack="b"), c=policy(pack="b", name="c")))
    command("lock", "b")
    write(Path("b"), {file: text})
    code, output, errors = command("lock", "--check", "b")
    assert (code, _problems(output)) == (1, [("b/a", "changed", parts)])
    assert errors.startswith("b/a means something else under the version that is locked")
    code, _, errors = command("lock", "b")
    assert code == 0
    assert errors == f"warning: b/a meant something else under version 1 ({parts[0]})\n"
    assert command("lock", "--check", "b")[0] == 0


def test_the_registry_is_locked_for_the_fields_that_are_read(command: Command) -> None:
    """What the registry says in a field that a policy reads is part of its meaning; other fields are not."""
    write(Path("b"), _files(a=policy("registry.sector == 'x'", pack="b")))
    command("lock", "b")
    write(Path("b"), {"registry.yaml": "bot: {sector: s, owner: me}\n"})
    assert command("lock", "--check", "b")[0] == 0
    write(Path("b"), {"registry.yaml": "bot: {sector: t}\n"})
    code, output, _ = command("lock", "--check", "b")
    assert (code, _problems(output)) == (1, [("b/a", "changed", ["registry"])])


def test_another_way_of_writing_needs_no_new_lock(command: Command) -> None:
    """Comments, order and titles change no meaning, so the lock goes on agreeing."""
    write(Path("b"), _files(a=policy("has(usage) && has(input)", pack="b", message="m")))
    command("lock", "b")
    write(Path("b"), {"policies/a.yaml": policy("has(input)\n&& has(usage)", pack="b", message="m", title="t") + "# c"})
    assert command("lock", "--check", "b") == (0, "", "")


def test_policies_missing_and_surplus_are_named(command: Command) -> None:
    """A policy that the lock does not have fails the check, and so does one that only the lock has."""
    write(Path("b"), _files(a=policy(pack="b"), c=policy(pack="b", name="c")))
    command("lock", "b")
    Path("b/policies/c.yaml").write_text(policy(pack="b", name="d"))
    code, output, _ = command("lock", "--check", "b")
    assert (code, _problems(output)) == (1, [("b/c", "surplus", []), ("b/d", "missing", [])])


def test_a_new_version_asks_for_a_new_lock(command: Command) -> None:
    """A new revision is outdated rather than changed, unless a condition changed that keeps its number."""
    write(Path("b"), _files(a=policy(pack="b", revisions=REVISIONS)))
    command("lock", "b")
    write(Path("b"), _files(a=policy(pack="b", revisions=[*REVISIONS, NEXT])))
    code, output, _ = command("lock", "--check", "b")
    assert (code, _problems(output)[0][:2]) == (1, ("b/a", "outdated"))
    other = [{**REVISIONS[0], "when": "!has(usage)"}, NEXT]
    write(Path("b"), _files(a=policy(pack="b", revisions=other)))
    code, output, _ = command("lock", "--check", "b")
    assert (code, _problems(output)[0][:2]) == (1, ("b/a", "changed"))


def test_policies_of_used_packs_are_locked_with_their_overrides(command: Command) -> None:
    """An override, of the severity or by an exception, changes what a used pack's policy means here."""
    write(Path("b"), {"bundle.yaml": f"name: b\nuses: [{PACK}]"})
    command("lock", "b")
    name = f"{PACK}/social-scoring"
    for override, part in (({"severity": "low"}, "severity"), ({"exceptions": [EXCEPTION]}, "exceptions.E: 1 #")):
        write(Path("b"), {"overrides.yaml": json.dumps({name: override})})
        code, output, _ = command("lock", "--check", "b")
        assert (code, _problems(output)) == (1, [(name, "changed", [part])])


def test_without_a_lock_the_check_fails(command: Command) -> None:
    """No lock is not a lock that agrees: every policy is missing from it, and what to do is said."""
    write(Path("b"), _files(a=policy(pack="b")))
    code, output, errors = command("lock", "--check", "b")
    assert (code, _problems(output)) == (1, [("b/a", "missing", [])])
    assert "write it with `usageaudit policy lock`" in errors


BROKEN = [
    "",
    "[",
    "[a]",
    "format: 2\npolicies: {}",
    "format: 1",
    "format: 1\npolicies: []",
    "format: 1\npolicies: {b/a: 1}",
    "format: 1\npolicies: {b/a: {version: 1, digest: abc}}",
    "format: 1\npolicies: {b/a: {version: x, digest: abc}}",
    "format: 1\npolicies: {b/a: {version: 1, digest: [], parts: 3}}",
    "format: 1\npolicies: &a {b/a: *a}",
    "<<<<<<< HEAD\nformat: 1\n=======\n",
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_lock_is_refused_with_its_place_and_written_anew(command: Command, text: str) -> None:
    """Whatever is wrong with a lock is said with file and line, with exit code 2; `lock` replaces it."""
    write(Path("b"), {**_files(a=policy(pack="b")), "policy.lock": text})
    code, output, errors = command("lock", "--check", "b")
    assert (code, output) == (2, "")
    assert "b/policy.lock:" in errors
    assert "Traceback" not in errors
    assert command("lock", "b")[0] == 0
    assert command("lock", "--check", "b")[0] == 0


@pytest.mark.parametrize("damaged", [b"", b"[", b"a: 1\na: 2\n", b"# \xff\n[", b"\xff\xfe\x00"], ids=repr)
def test_a_damaged_lock_is_a_matter_of_lock_alone(command: Command, damaged: bytes) -> None:
    """Whatever a lock holds, the bundle is checked and compared as without it; `lock` refuses it, or writes it anew."""
    write(Path("b"), {**_files(a=policy(pack="b")), "policy.lock": damaged})
    assert command("diff", "b", "b") == (0, "", "")
    assert command("check", "b")[0] == 0
    code, _, errors = command("lock", "--check", "b")
    assert code == 2
    assert "b/policy.lock:" in errors
    assert command("lock", "b")[0] == 0
    assert command("lock", "--check", "b")[0] == 0


def test_a_lock_of_a_policy_that_is_gone_is_named(command: Command) -> None:
    """A policy that only the lock has fails the check by its name."""
    write(Path("b"), _files(a=policy(pack="b"), c=policy(pack="b", name="c")))
    command("lock", "b")
    Path("b/policies/c.yaml").unlink()
    code, output, errors = command("lock", "--check", "b")
    assert (code, _problems(output)) == (1, [("b/c", "surplus", [])])
    assert errors == "b/c is in the lock alone\n"


def test_a_shipped_pack_is_not_written_to(command: Command) -> None:
    """A lock belongs into a folder of one's own."""
    assert command("lock", PACK)[0] == 2
    Path("b").mkdir()
    assert command("lock", "b")[0] == 2


@pytest.mark.parametrize("pack", shipped_packs())
def test_shipped_packs_mean_what_their_locks_say(command: Command, pack: str) -> None:
    """A shipped policy changes its meaning under a new version only; `usageaudit policy lock FOLDER` agrees anew."""
    assert command("lock", "--check", pack) == (0, "", "")


EVERYTHING = policy(
    revisions=[
        {
            "version": 1,
            "to": "2026-01-01",
            "when": "mine && ([1, 2].exists(x, x == size(tools)) ? !has(actor.on_behalf_of) : cost.amount > 1.5)",
        },
        {
            "version": 2,
            "from": "2026-01-01",
            "when": "content.signals.exists_one(s, s.score * 2.0 >= 1.0)"
            " && event.time > timestamp('2026-01-01T00:00:00Z') || labels['k'].matches('^a')"
            " || tools.all(x, x != 'a') && usage.input_tokens % 2 == 0",
        },
    ],
    let={"mine": "actor.sector in lists.some && event.time.getHours('Europe/Paris') >= 8"},
    applies="registry.sector == 'retail' || record.time - event.time < duration('1h')",
    exceptions=[EXCEPTION],
    alert={"dedup_by": ["actor.id"], "for": "1d12h"},
    message="{actor.id}: {{}}",
    evidence=["model.name", "actor.id"],
    on_unknown="violate",
)


def test_a_digest_is_for_years() -> None:
    """Another digest for the same policy would end every approval and every lock: it needs a new `meaning.FORMAT`."""
    bundle = bundle_of(EVERYTHING, lists="some: [b, a]", registry="bot: {sector: s, owner: me}\n")
    assert lock_of(bundle)["test/a"].digest == "cd948dd7ff8f151c0306bb43db3a52a3af0a9660f9dbac68e5724c9b339c47d3"


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=12).filter(str.strip)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=3, unique_by=lambda one: one[0]))
def test_what_is_written_is_read_back(names: list[tuple[str, str]]) -> None:
    """Any ids of exceptions and names of applications come back from the file as they were, for PyYAML as for us."""
    exceptions: list[dict[str, Any]] = [{**EXCEPTION, "id": name} for name, _ in names]
    bundle = bundle_of(
        policy("registry.sector == 'x'", exceptions=exceptions),
        registry=json.dumps({name: {"sector": sector} for name, sector in names} or {"a": {}}, ensure_ascii=False),
    )
    lock: dict[str, Locked] = lock_of(bundle)
    text = lock_text(lock)
    assert yaml.safe_load(text)["policies"]["test/a"]["parts"] == lock["test/a"].parts
    report = Report()
    assert read_lock(text, "policy.lock", report) == lock
    assert report.diagnostics == []
    assert list(disagreements(lock, lock_of(bundle))) == []
