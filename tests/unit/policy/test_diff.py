"""What differs between two bundles: their meaning, not their text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.bundles import TIME, bundle_of, data_of, policy, write
from tests.unit.policy.conditions import Random
from usageaudit.policy import compile_judge
from usageaudit.policy.diff import differences
from usageaudit.policy.meaning import meanings

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from usageaudit.policy import Bundle

LISTS = 'some: [a, ab]\nother: ["é", b]\n'
EXCEPTION = {"id": "EX", "when": "has(actor.sector)", "approved_by": "me", "reason": "why", "expires": "2026-01-01"}
ENTRY = "bot: {sector: retail, owner: me}\n"


def _changes(old: Bundle, new: Bundle) -> dict[str, tuple[str, Any, Any]]:
    return {one.part: (one.change, one.old, one.new) for one in differences(old, new)}


def _between(old: dict[str, Any], new: dict[str, Any], **files: str) -> dict[str, tuple[str, Any, Any]]:
    """Return what differs between two policies of the same id, by part."""
    texts = [policy(**{"when": "has(actor.sector)", **fields}) for fields in (old, new)]
    return _changes(*(bundle_of(text, lists=LISTS, **files) for text in texts))


SAME_MEANING = [
    ('actor.sector == "a" && has(purpose)', 'has(purpose)\n  && (actor.sector == "a")  // why'),
    ('actor.sector == "a"', '"a" == actor.sector'),
    ('actor.sector == "a"', 'actor.sector == "a" || (actor.sector == "a" || actor.sector == "a")'),
    ("has(purpose) && (has(usage) && has(input))", "(has(input) && has(usage)) && has(purpose)"),
    ('actor.sector in ["a", "b", "b"]', "actor.sector in ['b', 'a']"),
    ("actor.sector in lists.some", 'actor.sector in ["ab", "a"]'),
    ('tools.exists(x, x == "a")', 'tools.exists(y, "a" == y)'),
    ('["a", "b"].exists(x, x == actor.sector)', '["b", "a"].exists(x, x == actor.sector)'),
    ('record.time - event.time > duration("60m")', 'record.time - event.time > duration("1h")'),
]


@pytest.mark.parametrize(("old", "new"), SAME_MEANING)
def test_another_way_of_writing_is_no_difference(old: str, new: str) -> None:
    """White space, comments, order, names and brackets change no meaning."""
    assert _between({"when": old}, {"when": new}) == {}


OTHER_MEANING = [
    ("usage.input_tokens > 1", "usage.input_tokens >= 1"),
    ("usage.input_tokens > 1", "1 > usage.input_tokens"),
    ("usage.input_tokens - 1 > 2", "2 > usage.input_tokens - 1"),
    ('actor.sector == "a"', 'actor.sector == "A"'),
    ('actor.sector == "a"', 'actor.on_behalf_of.sector == "a"'),
    ("has(purpose) && has(usage)", "has(purpose) || has(usage)"),
    ('actor.sector == "a" && has(purpose) || has(usage)', 'actor.sector == "a" && (has(purpose) || has(usage))'),
    ('tools.exists(x, tools.all(y, x == "a"))', 'tools.exists(x, tools.all(y, y == "a"))'),
    ('["a", "a"].exists_one(x, x == actor.sector)', '["a"].exists_one(x, x == actor.sector)'),
    ('actor.sector.matches("^a")', 'actor.sector.matches("^a ")'),
    ("cost.amount > 1", "cost.amount > 1.5"),
]


@pytest.mark.parametrize(("old", "new"), OTHER_MEANING)
def test_another_condition_is_a_difference_of_its_revision(old: str, new: str) -> None:
    """A condition that means something else is shown as it was and as it is, on one line without comments."""
    found = _between({"when": old}, {"when": f"{new}  // comment"})
    assert {part: change for part, (change, *_) in found.items()} == {"revisions.1.when": "changed"}
    assert "//" not in found["revisions.1.when"][2]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({}, {"severity": "low"}, {"severity": ("changed", "medium", "low")}),
        ({"stage": "shadow"}, {}, {"stage": ("changed", "shadow", "enforce")}),
        ({}, {"on_unknown": "violate"}, {"on_unknown": ("changed", "record", "violate")}),
        ({}, {"message": "{actor.id}!"}, {"message": ("changed", "a", "{actor.id}!")}),
        ({}, {"evidence": ["actor.id"]}, {"evidence": ("changed", [], ["actor.id"])}),
        ({}, {"applies": "has(usage)"}, {"applies": ("added", None, "has(usage)")}),
        ({"applies": "has(usage)"}, {}, {"applies": ("removed", "has(usage)", None)}),
        (
            {"exceptions": [EXCEPTION]},
            {"exceptions": [{**EXCEPTION, "expires": "2027-01-01"}]},
            {"exceptions.EX": ("changed", {"expires": "2026-01-02T00:00:00Z"}, {"expires": "2027-01-02T00:00:00Z"})},
        ),
        (
            {"exceptions": [EXCEPTION]},
            {"exceptions": [{**EXCEPTION, "when": "has(usage)"}]},
            {"exceptions.EX": ("changed", {"when": "has(actor.sector)"}, {"when": "has(usage)"})},
        ),
        (
            {},
            {"revisions": [{"version": 1, "when": "has(actor.sector)", "to": "2026-01-01"}]},
            {"revisions.1.to": ("added", None, "2026-01-01T00:00:00Z")},
        ),
        (
            {"exceptions": [EXCEPTION, {**EXCEPTION, "id": "EY"}]},
            {"exceptions": [{**EXCEPTION, "id": "EY"}, EXCEPTION]},
            {"exceptions": ("changed", ["EX", "EY"], ["EY", "EX"])},
        ),
        (
            {"exceptions": [EXCEPTION]},
            {"exceptions": [{**EXCEPTION, "id": "EY"}, EXCEPTION]},
            {
                "exceptions.EY": (
                    "added",
                    None,
                    {"when": "has(actor.sector)", "expires": "2026-01-02T00:00:00Z", "approved_by": "me"},
                )
            },
        ),
        (
            {"revisions": [{"version": 1, "when": "has(actor.sector)", "to": "2026-01-01"}]},
            {
                "revisions": [
                    {"version": 1, "when": "has(actor.sector)", "to": "2026-01-01"},
                    {"version": 2, "when": "has(usage)  // wider", "from": "2026-01-01"},
                ]
            },
            {
                "revisions.2.when": ("added", None, "has(usage)"),
                "revisions.2.from": ("added", None, "2026-01-01T00:00:00Z"),
            },
        ),
        (
            {},
            {"alert": {"dedup_by": ["actor.id"], "for": "1h"}},
            {"alert": ("added", None, {"dedup_by": ["actor.id"], "for": "3600s"})},
        ),
    ],
)
def test_every_part_of_a_policy_is_compared(
    old: dict[str, Any], new: dict[str, Any], found: dict[str, tuple[str, Any, Any]]
) -> None:
    """Each part that changes a verdict, or what is recorded of it, is a difference of its own, with old and new."""
    assert _between(old, new) == found
    assert _between(new, new) == {}


@pytest.mark.parametrize(
    "new",
    [
        {"title": "another", "message": "a"},
        {"description": "another"},
        {"basis": [{"document": "x"}]},
        {"tests": [{"name": "t", "expect": "ok", "event": {}}]},
        {"evidence": ["actor.id", "model.name"]},
        {"exceptions": [{**EXCEPTION, "reason": "because"}]},
        {"let": {"unused": "has(usage)"}},
    ],
)
def test_what_tells_people_something_is_no_part_of_the_meaning(new: dict[str, Any]) -> None:
    """Title, description, basis, tests, reasons, the order of evidence and what nothing names change no meaning."""
    assert _between({"evidence": ["model.name", "actor.id"], "exceptions": [EXCEPTION]} | _with(new), _with(new)) == {}


def _with(new: dict[str, Any]) -> dict[str, Any]:
    return {"evidence": ["actor.id", "model.name"], "exceptions": [EXCEPTION], "message": "a", **new}


def test_an_entry_of_a_list_is_a_difference_of_each_policy_that_names_it() -> None:
    """Entries added and removed are named; the condition, which reads as before, is not."""
    texts = [policy("actor.sector in lists.some"), policy("has(actor)", name="b", applies="actor.id in lists.other")]
    old = bundle_of(*texts, lists="some: [a, b]\nother: [x]\nunread: [y]\n")
    new = bundle_of(*texts, lists="some: [c, b]\nother: [x]\nunread: [z]\n")
    assert [(one.policy_id, one.change, one.part, one.old, one.new) for one in differences(old, new)] == [
        ("test/a", "changed", "lists.some", ["a"], ["c"])
    ]
    assert _changes(old, bundle_of(*texts, lists="some: [b, a]\nother: [x]\n")) == {}


def test_a_sub_condition_is_named_where_it_is_what_changed() -> None:
    """Of a condition that reads as before, the sub-condition, and the list in it, is the difference."""

    def bundle(let: str, lists: str) -> Bundle:
        return bundle_of(policy("mine && has(usage)", let={"mine": let}), lists=lists)

    old = bundle("actor.sector in lists.some", "some: [a]")
    assert _changes(old, bundle("actor.sector in lists.some && has(input)", "some: [a]")) == {
        "let.mine": ("changed", "actor.sector in lists.some", "actor.sector in lists.some && has(input)")
    }
    assert _changes(old, bundle("actor.sector in lists.some", "some: [b]")) == {"lists.some": ("changed", ["a"], ["b"])}
    inlined = bundle_of(policy("has(usage) && actor.sector in lists.some"), lists="some: [a]")
    assert _changes(old, inlined) == {}


def test_the_registry_counts_where_it_is_read() -> None:
    """A field of an application is a difference for the policies that read that field, in conditions or messages."""
    reading = policy("registry.sector == actor.sector")
    old = bundle_of(reading, policy(name="b"), registry=ENTRY)
    assert _changes(old, bundle_of(reading, policy(name="b"), registry=ENTRY.replace("retail", "police"))) == {
        "registry.bot": ("changed", {"sector": "retail"}, {"sector": "police"})
    }
    assert _changes(old, bundle_of(reading, policy(name="b"), registry=ENTRY.replace("me", "you"))) == {}
    told = [bundle_of(policy(message="{registry.owner}"), registry=ENTRY.replace("me", who)) for who in ("me", "you")]
    assert _changes(*told) == {"registry.bot": ("changed", {"owner": "me"}, {"owner": "you"})}


def test_policies_that_came_or_went_are_one_difference_each() -> None:
    """A policy that only one bundle has is named once, with its version and stage."""
    old, new = bundle_of(policy(name="a")), bundle_of(policy(name="b", stage="shadow"))
    assert [(one.policy_id, one.change, one.part, one.old, one.new) for one in differences(old, new)] == [
        ("test/a", "removed", "policy", "version 1, enforce", None),
        ("test/b", "added", "policy", None, "version 1, shadow"),
    ]


def _words(rnd: random.Random, condition: str) -> Iterator[str]:
    """Yield conditions with one word, number or operator of a condition exchanged."""
    for old, new in ((' "a"', ' "b"'), (" < ", " <= "), (" && ", " || "), ("has(purpose)", "has(usage)"), (" 1", " 2")):
        places = [at for at in range(len(condition)) if condition.startswith(old, at)]
        if places:
            at = rnd.choice(places)
            yield condition[:at] + new + condition[at + len(old) :]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_no_difference_judges_alike(rnd: random.Random) -> None:
    """Whatever is exchanged in a condition: where no difference is found, no event is judged differently."""
    draw = Random(rnd)
    condition = draw.condition()
    for changed in _words(rnd, condition):
        old, new = (bundle_of(policy(one), lists=LISTS) for one in (condition, changed))
        if not _changes(old, new):
            judges = [compile_judge(one) for one in (old, new)]
            for data in (data_of(**draw.event()) for _ in range(20)):
                verdicts = [judge(data, TIME, TIME, "//s", "e") for judge in judges]
                assert verdicts[0] == verdicts[1], changed


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_there_are_differences_where_the_digests_differ_and_only_there(rnd: random.Random) -> None:
    """What `diff` prints and what `lock` and approvals compare never contradict each other."""
    draw = Random(rnd)
    bundles = [bundle_of(draw.policy("a"), lists=f"some: [{draw.word()}]\n") for _ in range(4)]
    for old in bundles:
        for new in bundles:
            digests = [meanings(one)["test/a"].digest for one in (old, new)]
            assert (_changes(old, new) == {}) == (digests[0] == digests[1])


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rewritten_conditions_keep_their_digest(rnd: random.Random) -> None:
    """Any condition keeps its meaning when its operands are shuffled, named by `let`, or spread over lines."""
    draw = Random(rnd)
    parts = [draw.condition(1) for _ in range(4)]
    shuffled = rnd.sample(parts, len(parts))
    named = {f"part_{number}": part for number, part in enumerate(shuffled[:2])}
    rewritten = "\n && ".join([*named, f"({shuffled[2]} && {shuffled[3]}) // comment"])
    old = bundle_of(policy(" && ".join(parts)), lists=LISTS)
    new = bundle_of(policy(rewritten, let=named), lists=LISTS)
    assert meanings(old)["test/a"].digest == meanings(new)["test/a"].digest
    assert _changes(old, new) == {}


def test_diff_prints_rows_and_ends_with_1(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Equal bundles end with 0 and no rows, others with 1 and a row for each part; packs and folders may be named."""
    files: dict[str, str | bytes] = {"bundle.yaml": "name: b", "policies/a.yaml": policy(pack="b")}
    write(tmp_path / "old", files)
    write(tmp_path / "new", {**files, "policies/a.yaml": policy(pack="b", severity="low") + "# a comment\n"})
    assert command("diff", "old", "old") == (0, "", "")
    code, output, errors = command("diff", "old", "new")
    assert (code, errors) == (1, "")
    assert json.loads(output) == {
        "policy_id": "b/a", "change": "changed", "part": "severity", "old": "medium", "new": "low",
    }  # fmt: skip
    code, output, _ = command("diff", "hygiene", "new", "--format", "json")
    assert code == 1
    assert {one["change"] for one in json.loads(output)} == {"added", "removed"}
    assert command("diff", "old", "nowhere")[0] == 2
    code, output, _ = command("diff", "new, hygiene", "new")
    assert code == 1
    assert {json.loads(line)["policy_id"].split("/")[0] for line in output.splitlines()} == {"hygiene"}
    assert command("diff", "hygiene,new", "new,hygiene") == (0, "", "")
    write(tmp_path / "old, new", files)
    assert command("diff", "old, new", "old") == (0, "", "")
    assert command("diff", ",", "old")[0] == 2


def test_used_packs_are_compared_as_they_hold(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """An override of a used pack's policy is a difference, and so is a list of the pack that is replaced."""
    files: dict[str, str | bytes] = {"bundle.yaml": "name: b\nuses: [azure-openai-code-of-conduct]"}
    name = "azure-openai-code-of-conduct/real-time-facial-recognition-on-mobile-cameras"
    write(tmp_path / "old", files)
    files |= {"overrides.yaml": f"{name}: {{stage: shadow}}", "lists.yaml": "mobile_cameras: [drone]"}
    write(tmp_path / "new", files)
    _, output, _ = command("diff", "old", "new")
    found = [json.loads(line) for line in output.splitlines()]
    assert {(one["policy_id"], one["part"]) for one in found} == {(name, "stage"), (name, "lists.mobile_cameras")}
