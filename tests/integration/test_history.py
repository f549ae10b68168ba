"""History against what Python says of the same events, policy by policy: back-test, affected report, rejudging."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger_rows import EMBEDDED, SERVER, migrated_store
from tests.rejudging import forget, record, structured
from tests.strategies import MINIMAL
from tests.unit.policy.bundles import TIME, bundle_of, policy
from tests.unit.policy.conditions import HOUR, Random
from usageaudit.cloudevents import decode
from usageaudit.errors import QueryError
from usageaudit.events.times import format_time
from usageaudit.history import Period, affected, backtest, comparing, rejudge, spans
from usageaudit.history.counting import IGNORED, NAMES, codes_of, effect_of
from usageaudit.history.examples import always
from usageaudit.ledger.ddl import VIEWS
from usageaudit.policy import compile_judge
from usageaudit.policy.explain import PolicyExplainer
from usageaudit.policy.schema import Occurrence
from usageaudit.policy.sql.judging import CODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from usageaudit.history import Change
    from usageaudit.policy import Bundle, Policy
    from usageaudit.stores.port import Store
    from usageaudit.streams.port import Record

REGISTRY = json.dumps({"a": {"sector": "b", "approved_use_cases": ["a"]}, "b": {"sector": "a"}})
LISTS = json.dumps({"some": ["a", "b"]})
JUDGED, TRIED = ("shadow", "enforce"), ("draft", "shadow", "enforce")
RECORDABLE = {CODES["violation"], CODES["exempted"], CODES["indeterminate"], IGNORED}
ALL = Period()
SEEDS = range(2)
Codes = dict[str, int]


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with all tables, on the oldest engine and the newest."""
    with migrated_store(request, tmp_path_factory) as made:
        yield made


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


def bundle(rnd: Random, count: int = 6) -> Bundle:
    """Return a bundle of random policies."""
    return bundle_of(*(rnd.policy(f"p{number}") for number in range(count)), lists=LISTS, registry=REGISTRY)


def records(rnd: Random, count: int = 60) -> list[Record]:
    """Return the records of random events over two months, some of which say who used the model."""
    made = []
    for number in range(count):
        data, time = rnd.event(), rnd.time() + rnd._rnd.choice([0, 0, 20 * 24 * HOUR, 40 * 24 * HOUR])
        data["actor"]["organization"] = rnd.maybe(rnd.word())
        sent = rnd.maybe((time + rnd._rnd.choice([0, 2 * HOUR])) // 1000)
        made.append(structured(number, data, sent, id=f"e{number}", time=format_time(time), source=f"//{rnd.word()}"))
    return made


def use_of(number: int, use_case: str | None) -> Record:
    """Return the record of an event of a day of its own, with or without a use case."""
    data = {**MINIMAL, "purpose": {"use_case": use_case}} if use_case else MINIMAL
    return structured(number, data, id=f"e{number}", time=f"2024-05-0{number + 1}T00:00:00Z")


def occurrences(made: Iterable[Record], registry: Mapping[str, Any]) -> list[Occurrence]:
    """Return the events of records as policies see them."""
    found = []
    for one in made:
        event = decode(one.value, one.headers)
        sent = None if one.timestamp is None else one.timestamp * 1000
        found.append(Occurrence(event.data, event.time, sent, registry, event.source, event.id))
    return found


def codes(
    judging: Bundle, made: Sequence[Record], stages: Sequence[str], changed: Callable[[Policy], Policy] = lambda p: p
) -> list[Codes]:
    """Return for each event the code of each policy's verdict, from the explanations alone."""
    found: list[Codes] = [{} for _ in made]
    for one in judging.policies:
        if one.stage in stages:
            explainer = PolicyExplainer(changed(one))
            for codes, event in zip(found, occurrences(made, judging.registry), strict=True):
                code = CODES[explainer.explain(event).verdict]
                codes[one.id] = IGNORED if code == CODES["indeterminate"] and one.on_unknown == "ignore" else code
    return found


def codes_at(judging: Bundle, made: Sequence[Record], time: int) -> list[Codes]:
    """Return the codes by the revisions of a time, drafts included."""
    return codes(judging, made, TRIED, lambda one: always(one, time))


def as_recorded(judging: Bundle, made: Sequence[Record]) -> list[Codes]:
    """Return the codes as a row of the ledger tells them: what it does not list was ok."""
    plain = {
        **dict.fromkeys(NAMES, CODES["ok"]),
        **{CODES[v]: CODES[v] for v in ("violation", "exempted", "indeterminate")},
    }
    return [{name: plain[code] for name, code in one.items()} for one in codes(judging, made, JUDGED)]


def counted(before: Sequence[Codes], after: Sequence[Codes], keys: Sequence[str | None]) -> dict[Any, Counter[Any]]:
    """Return how many events have which pair of recordable codes, by policy and key of the event."""
    found: dict[Any, Counter[Any]] = {}
    for old, new, key in zip(before, after, keys, strict=True):
        for name in {*old, *new}:
            pair = (old.get(name, 0), new.get(name, 0))
            if RECORDABLE & set(pair):
                found.setdefault((name, key), Counter())[pair] += 1
    return found


def said(change: Change, dimension: str | None = None) -> dict[Any, Counter[Any]]:
    """Return what a report says in the same form."""
    found: dict[Any, Counter[Any]] = {}
    for one in change.policies:
        tallies = {None: one.all} if dimension is None else one.parts[dimension]
        for value, tally in tallies.items():
            if tally.pairs:
                found[one.policy_id, value] = Counter({codes_of(pair): n for pair, n in tally.pairs.items()})
    return found


def keys_of(made: Sequence[Record]) -> dict[str | None, list[str | None]]:
    """Return organisation, application, model and month of each event, and one value for all of them."""
    events = occurrences(made, {})
    return {
        None: [None for _ in events],
        "organization": [event.data.actor.organization for event in events],
        "application": [event.data.application.name for event in events],
        "model": [event.data.model.name for event in events],
        "month": [format_time(event.time)[:7] for event in events],
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bundle_finds_what_it_recorded(store: Store, seed: int) -> None:
    """Back-tested against the record that it judged itself, a bundle changes nothing, whatever policies and events."""
    rnd = Random(random.Random(seed))
    judging, made = bundle(rnd), records(rnd)
    forget(store)
    record(store, judging, made)
    judged = [one.id for one in judging.policies if one.stage in JUDGED]
    change = backtest(store, judging, None, ALL, progress=no_progress, only=judged or ["none"])
    assert (change.events, sum(one.all.changed for one in change.policies)) == (len(made), 0)
    assert all(not one.examples for one in change.policies)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_backtest_counts_what_explanations_say(store: Store, seed: int) -> None:
    """Against the record and against another bundle, every figure by every dimension is that of Python's verdicts."""
    rnd = Random(random.Random(seed))
    old, new, made = bundle(rnd), bundle(rnd), records(rnd)
    forget(store)
    record(store, old, made)
    after = codes(new, made, TRIED)
    recorded = [{**{one.id: 1 for one in new.policies}, **{k: v for k, v in row.items() if new.policy(k)}}
                for row in as_recorded(old, made)]  # fmt: skip
    for other, before in ((old, codes(old, made, JUDGED)), (None, recorded)):
        change = backtest(store, new, other, ALL, progress=no_progress)
        for dimension in (None, "organization", "application", "month"):
            assert said(change, dimension) == counted(before, after, keys_of(made)[dimension]), dimension


@pytest.mark.parametrize("seed", SEEDS)
def test_as_of_judges_by_the_revisions_of_that_time(store: Store, seed: int) -> None:
    """With a time, every event is judged by the revision in force then, and nothing else of it changes."""
    rnd = Random(random.Random(seed))
    judging, made = bundle(rnd, 10), records(rnd)
    forget(store)
    record(store, judging, made)
    moment = rnd.time()
    change = backtest(store, judging, judging, ALL, progress=no_progress, as_of=moment)
    after = codes_at(judging, made, moment)
    assert said(change) == counted(codes(judging, made, JUDGED), after, keys_of(made)[None])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_affected_are_those_whose_verdicts_differ_at_that_time(store: Store, seed: int) -> None:
    """Of the policies that are revised then, and only of those, the counts are those of both revisions in Python."""
    rnd = Random(random.Random(seed))
    judging, made = bundle(rnd, 16), records(rnd)
    forget(store)
    record(store, judging, made)
    cuts = sorted({one.start for p in judging.policies for one in p.revisions if one.start is not None})
    for moment in cuts[:2]:
        change = affected(store, judging, moment, ALL, progress=no_progress)
        revised = {one.policy_id for one in change.policies}
        assert revised == {p.id for p in judging.policies if any(one.start == moment for one in p.revisions)}
        before, after = (
            [{k: v for k, v in row.items() if k in revised} for row in found]
            for found in (codes_at(judging, made, moment - 1), codes_at(judging, made, moment))
        )
        for dimension in (None, "organization", "application", "model"):
            assert said(change, dimension) == counted(before, after, keys_of(made)[dimension]), dimension


def test_statements_may_hold_few_policies_or_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """How policies and times are cut into statements changes no figure and no example."""
    rnd = Random(random.Random(7))
    old, new, made = bundle(rnd), bundle(rnd), records(rnd, 30)
    forget(store)
    record(store, old, made)
    whole = backtest(store, new, old, ALL, progress=no_progress)
    monkeypatch.setattr(comparing, "_GROUP_CHARACTERS", 1)
    monkeypatch.setattr("usageaudit.history.running.SPAN_EVENTS", 7)
    told: list[tuple[int, int]] = []
    assert backtest(store, new, old, ALL, progress=lambda *some: told.append(some)).policies == whole.policies
    assert len(told) >= 5
    assert told == sorted(told)
    assert told[-1] == (len(made), len(made))


@pytest.mark.parametrize("most", [1, 3, 10, 1_000])
def test_pieces_of_a_period_hold_every_event_once(store: Store, most: int) -> None:
    """Pieces follow each other inside the period, and each holds as many events as it says, or about so."""
    made = records(Random(random.Random(1)), 80)
    forget(store)
    record(store, bundle_of(policy()), made)
    period = Period(TIME - HOUR, TIME + 30 * 24 * HOUR)
    times = [event.time for event in occurrences(made, {})]
    inside = [time for time in times if period.start <= time < period.end]
    pieces = spans.spans(store, period, most)
    assert sum(piece.events for piece in pieces) == len(inside)
    assert all(sum(one.period.start <= time < one.period.end for one in pieces) == 1 for time in inside)
    assert all(period.start <= one.period.start < one.period.end <= period.end for one in pieces)
    assert [one.period.start for one in pieces] == sorted(one.period.start for one in pieces)


def test_examples_say_what_was_missing_and_what_decided(store: Store) -> None:
    """Each change has its first events by time; those undecided name the fields that would have decided."""
    made = [use_of(n, use) for n, use in enumerate(["x", "y", None, "x", None])]
    forget(store)
    record(store, bundle_of(policy("has(labels)")), made)
    change = backtest(
        store, bundle_of(policy('purpose.use_case == "x"')), None, ALL, progress=no_progress, most_examples=1
    )
    [one] = change.policies
    assert {figure: one.all[figure] for figure in ("violations_before", "added", "now_indeterminate")} == {
        "violations_before": 0,
        "added": 2,
        "now_indeterminate": 2,
    }
    assert [(e.event_id, e.before, e.after, e.missing_fields) for e in one.examples] == [
        ("e0", "ok", "violation", ()),
        ("e2", "ok", "indeterminate", ("purpose.use_case",)),
    ]
    assert one.unsaid == {"purpose.use_case": 2}
    assert one.examples[0].deciding == ('purpose.use_case == "x"',)


FINDINGS = """SELECT policy_id, event_refs[1].1, event_refs[1].2, effect, verdict, stage, policy_version, bundle,
    old_bundle FROM findings WHERE kind = 'rejudged' ORDER BY created"""


def expected_findings(before: Sequence[Codes], after: Sequence[Codes], made: Sequence[Record]) -> Counter[Any]:
    """Return policy, source, id and effect of the findings that are due."""
    events = occurrences(made, {})
    return Counter(
        (name, event.source, event.event_id, effect)
        for old, new, event in zip(before, after, events, strict=True)
        for name, code in new.items()
        if (effect := effect_of(old.get(name, 1), code))
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_rejudging_appends_what_differs_once(store: Store, seed: int) -> None:
    """What was recorded differently has one finding with both bundles; running it again appends none."""
    rnd = Random(random.Random(seed))
    old, new, made = bundle(rnd), bundle(rnd), records(rnd)
    forget(store)
    record(store, old, made)
    before, after = as_recorded(old, made), codes(new, made, JUDGED)
    expected = expected_findings(before, after, made)
    dry = rejudge(store, new, ALL, loaded_by="me", progress=no_progress, dry_run=True)
    assert store.execute("SELECT count() FROM findings_log").rows == [(0,)]
    assert rejudge(store, new, ALL, loaded_by="me", progress=no_progress) == dry
    found = store.execute(FINDINGS).rows
    assert Counter(tuple(row[:4]) for row in found) == expected
    assert {(row[7], row[8]) for row in found} <= {(new.hash, old.hash)}
    assert all(row[5] == next(p.stage for p in new.policies if p.id == row[0]) for row in found)
    again = rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    assert sum(one.violations + one.cleared + one.notices for one in again) == 0
    assert store.execute("SELECT count() FROM findings_log").rows == [(len(found),)]
    if found:
        assert store.execute("SELECT hash FROM bundles ORDER BY loaded_at").rows[-1:] == [(new.hash,)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_later_rejudging_replaces_an_earlier_one(store: Store, seed: int) -> None:
    """The last finding about an event is what counts: a third bundle is compared with the second, and back again."""
    rnd = Random(random.Random(seed))
    first, second, third, made = bundle(rnd), bundle(rnd), bundle(rnd), records(rnd)
    forget(store)
    record(store, first, made)
    stands = as_recorded(first, made)
    for judging in (second, third, second):
        known = store.execute("SELECT count() FROM findings_log").rows[0][0]
        rejudge(store, judging, ALL, loaded_by="me", progress=no_progress)
        after = codes(judging, made, JUDGED)
        found = Counter(tuple(row[:3]) for row in store.execute(FINDINGS).rows[known:])
        assert found == Counter(key[:3] for key in expected_findings(stands, after, made).elements())
        for row, new in zip(stands, after, strict=True):
            found_now = {name: code for name, code in new.items() if effect_of(row.get(name, 1), code)}
            row.update({name: CODES["indeterminate"] if code == IGNORED else code for name, code in found_now.items()})
        (twice,) = store.execute(LISTED_TWICE).rows[0]
        assert twice == 0


STANDS = """SELECT event_refs[1].2 AS id, argMax(verdict, (created, finding_id)) FROM findings WHERE kind = 'rejudged'
GROUP BY id ORDER BY id"""
LISTED_TWICE = """SELECT count() FROM (SELECT 1 FROM violations WHERE verdict = 'violation'
GROUP BY event_source, event_id, policy_id, policy_version HAVING count() > 1)"""


def test_what_stands_after_corrections_of_corrections(store: Store) -> None:
    """The last finding says what the last rules say, also where that is nothing; a violation is listed once for all."""
    uses = {"e0": "x", "e1": "y", "e2": None}
    forget(store)
    old, new = bundle_of(policy('purpose.use_case == "x"')), bundle_of(policy('purpose.use_case == "y"'))
    unsure = bundle_of(policy('actor.jurisdiction == "FR"'))
    record(store, old, [use_of(n, use) for n, use in enumerate(uses.values())])
    said = {}
    for name, bundle_ in {"new": new, "unsure": unsure, "old": old, "new again": new, "old again": old}.items():
        rejudge(store, bundle_, ALL, loaded_by="me", progress=no_progress)
        said[name] = dict(store.execute(STANDS).rows)
    assert said["new"] == {"e0": "ok", "e1": "violation"}
    assert said["unsure"] == {"e0": "indeterminate", "e1": "indeterminate"}
    assert said["old"] == said["old again"] == {"e0": "violation", "e1": "ok"}
    assert said["new again"] == {"e0": "ok", "e1": "violation"}
    listed = store.execute("SELECT event_id, count() FROM violations GROUP BY event_id ORDER BY event_id").rows
    assert listed == [("e0", 1), ("e1", 1)]


def test_two_who_rejudge_at_once_find_the_same(store: Store) -> None:
    """What is appended by one after another has computed the same has the same ids, and is read once."""
    made = [use_of(n, "x") for n in range(4)]
    forget(store)
    record(store, bundle_of(policy("has(labels)")), made)
    new = bundle_of(policy("has(purpose.use_case)", message="{purpose.use_case}!", stage="shadow", severity="high"))
    rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    columns = ", ".join(name for name in store.execute("SELECT * FROM findings_log LIMIT 0").columns)
    late = store.execute("SELECT now64(3) + 5").rows[0][0]
    store.execute(
        f"INSERT INTO findings_log ({columns}) SELECT {columns.replace('created', '{at:DateTime64(3)} AS created')} "
        "FROM findings_log",
        {"at": late.astimezone(dt.UTC)},
    )
    assert store.execute("SELECT count(), uniqExact(finding_id) FROM findings_log").rows == [(8, 4)]
    sql = "SELECT kind, stage, severity, message, event_source, event_id, application_name, verdict FROM violations"
    rows = store.execute(f"{sql} ORDER BY event_id").rows
    assert [row[:4] for row in rows] == [("rejudged", "shadow", "high", "x!")] * 4
    assert [row[5] for row in rows] == ["e0", "e1", "e2", "e3"]
    hourly = "SELECT policy_id, stage, sum(violations) FROM violations_hourly GROUP BY ALL"
    assert store.execute(hourly).rows == [("test/a", "shadow", 4)]
    again = rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    assert [one.violations for one in again] == [0]


def test_statements_may_be_longer_than_people_type(store: Store) -> None:
    """A list of many entries makes SQL that is longer than the engine takes from people, and it is answered."""
    entries = json.dumps([f"use case number {number}" for number in range(20_000)] + ["x"])
    made = [use_of(n, "x") for n in range(3)]
    forget(store)
    record(store, bundle_of(policy("has(labels)")), made)
    new = bundle_of(policy("purpose.use_case in lists.many"), lists=f"many: {entries}")
    with pytest.raises(QueryError, match=r"(?i)syntax|max_query_size"):
        store.query("SELECT 1 IN (" + ", ".join(map(str, range(60_000))) + ")")
    [one] = backtest(store, new, None, ALL, progress=no_progress).policies
    assert one.all["added"] == 3
    [outcome] = rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    assert outcome.violations == 3


HOSTILE = ("'", "\\", "\\'", "{id:String}", "a\nb", "\x01", "é😀\u202e", "--", "/*", "`", '"', "%s", "\u2028")


def test_any_source_and_id_comes_through(store: Store) -> None:
    """Quotes, backslashes, braces and control characters of an event reach examples and findings as they are."""
    made = [
        structured(
            n,
            {**MINIMAL, "purpose": {"use_case": "x"}, "actor": {"id": text, "organization": text}},
            id=f"{text}#",
            source=f"//{n}",
        )
        for n, text in enumerate(HOSTILE)
    ]
    forget(store)
    record(store, bundle_of(policy("has(labels)")), made)
    new = bundle_of(policy('purpose.use_case == "x"', message="{actor.organization}", evidence=["actor.id"]))
    [one] = backtest(store, new, None, ALL, progress=no_progress, most_examples=50).policies
    assert {example.event_id for example in one.examples} == {f"{text}#" for text in HOSTILE}
    assert all(example.deciding for example in one.examples)
    assert set(one.parts["organization"]) == set(HOSTILE)
    rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    rows = store.execute("SELECT event_id, message, actor_id, actor_organization, evidence FROM violations").rows
    assert {row[0]: row[1:4] for row in rows} == {f"{text}#": (text, text, text) for text in HOSTILE}
    assert {json.loads(row[4])["actor.id"] for row in rows} == set(HOSTILE)


def test_violations_of_rows_and_findings_are_filtered_alike(store: Store) -> None:
    """A filter by any value that a column of `violations` has is answered, for rows of events and of findings."""
    made = [use_of(n, "x") for n in range(2)]
    forget(store)
    record(store, bundle_of(policy('purpose.use_case == "x"', name="b"), policy("has(labels)")), made)
    rejudge(
        store, bundle_of(policy("has(purpose.use_case)", stage="shadow")), ALL, loaded_by="me", progress=no_progress
    )
    [view] = [view for view in VIEWS if view.name == "violations"]
    columns = [column.name for column in view.columns]
    rows = store.execute(f"SELECT {', '.join(columns)} FROM violations").rows
    assert len(rows) == 4
    for place, column in enumerate(view.columns):
        for value in {str(row[place]): row[place] for row in rows if row[place] is not None}.values():
            found = store.query(f"SELECT * FROM violations WHERE {column.name} = {{v:{column.type}}}", {"v": value})
            assert len(found.rows) == sum(row[place] == value for row in rows), column.name


def test_a_recorded_violation_is_not_found_again(store: Store) -> None:
    """What the row lists already is no finding, also under another version of the policy; what is gone is cleared."""
    made = [use_of(n, use) for n, use in enumerate(["x", "y"])]
    forget(store)
    record(store, bundle_of(policy("has(purpose.use_case)")), made)
    new = bundle_of(policy(revisions=[{"version": 2, "when": 'purpose.use_case == "x"'}], title="No x"))
    rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    found = store.execute("SELECT event_refs[1].2, effect, verdict, policy_version, message FROM findings").rows
    assert found == [("e1", "cleared", "ok", 2, "No x: no violation by version 2")]
    assert store.execute("SELECT count() FROM violations").rows == [(2,)]


def test_sql_and_judge_have_to_agree_before_anything_is_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where SQL says a violation and the stream's judge does not, the run ends, without a finding."""
    forget(store)
    record(store, bundle_of(policy("has(labels)")), [use_of(0, "x")])
    monkeypatch.setattr("usageaudit.history.rejudging.verdicts", lambda *_: {"test/a": str(CODES["violation"])})
    with pytest.raises(QueryError, match="SQL says violation of //tests e0"):
        rejudge(store, bundle_of(policy("has(labels)")), ALL, loaded_by="me", progress=no_progress)
    assert store.execute("SELECT count() FROM findings_log").rows == [(0,)]


def test_a_finding_says_what_the_stream_would_have_recorded(store: Store) -> None:
    """The message, evidence and missing fields of a finding are what the stream's judge would have recorded."""
    made = [use_of(0, "x")]
    forget(store)
    record(store, bundle_of(policy("has(labels)")), made)
    new = bundle_of(
        policy('actor.sector == "x"', on_unknown="violate", message="{model.name}", evidence=["purpose.use_case"])
    )
    rejudge(store, new, ALL, loaded_by="me", progress=no_progress)
    event = occurrences(made, {})[0]
    [violation] = compile_judge(new)(event.data, event.time, event.record_time).violated
    found = store.execute("SELECT message, evidence, missing_fields FROM violations").rows
    assert found == [(violation.message, violation.evidence, list(violation.missing_fields))]
