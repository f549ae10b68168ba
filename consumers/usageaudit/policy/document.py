"""Writes a bundle as a page of Markdown, for people who have to know what it says without reading conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usageaudit.events.times import MAX_TIME, format_time, to_micros
from usageaudit.policy.language import fields_read
from usageaudit.policy.meaning import meanings
from usageaudit.policy.windows.words import conditions_of, in_words, span_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from usageaudit.policy.language import Condition, Path
    from usageaudit.policy.meaning import Meaning
    from usageaudit.policy.model import Bundle, ListValues, Policy, PolicyException, RegistryEntry, Revision

MAX_ENTRIES = 40
"""How many entries of a list a policy shows; the page has all of them at its end."""

_STAGES = {
    "draft": "draft: not judged yet",
    "shadow": "shadow: judged and recorded, never alerted",
    "enforce": "enforced",
    "retired": "retired: no longer judged",
}
_IN_STAGE = {"draft": "in draft", "shadow": "in shadow", "enforce": "enforced", "retired": "retired"}
_UNKNOWN = {
    "record": "An event that leaves it open is recorded as undecided, with the fields that would have decided it.",
    "violate": "An event that leaves it open counts as a violation, which names the fields that are missing.",
    "ignore": "An event that leaves it open is not recorded.",
}


def markdown(bundle: Bundle, now: datetime | None = None) -> str:
    """Return the page of a bundle: every policy with its basis, reading, conditions and approvals, and the lists.

    Exceptions that have expired `now`, by default at present, are marked.
    """
    page = _Page(bundle, to_micros(now or datetime.now(UTC)), meanings(bundle))
    return "\n".join(page.lines()).rstrip("\n") + "\n"


@dataclass(frozen=True, slots=True)
class _Page:
    bundle: Bundle
    now: int
    meanings: Mapping[str, Meaning]

    def lines(self) -> Iterator[str]:
        """Yield the page line by line."""
        bundle = self.bundle
        yield f"# Policies: {bundle.name}"
        yield ""
        commit = f", git commit `{bundle.commit}`" if bundle.commit else ""
        yield f"Bundle `{bundle.hash}`{commit}. {self._counts()}."
        yield ""
        yield from _table(("policy", "title", "severity", "stage", "version"), map(self._row, bundle.all_policies))
        for policy in bundle.all_policies:
            yield from self._policy(policy)
        if bundle.lists:
            yield from self._lists()
        if bundle.registry:
            yield "## Registry of applications"
            yield ""
            columns = ("application", "owner", "team", "sector", "jurisdiction", "approved use cases", "data classes")
            yield from _table(columns, [_application(name, entry) for name, entry in bundle.registry.items()])

    def _counts(self) -> str:
        """Return how many policies there are in each stage."""
        found = [(stage, sum(policy.stage == stage for policy in self.bundle.all_policies)) for stage in _STAGES]
        return ", ".join(f"{number} {_IN_STAGE[stage]}" for stage, number in found if number)

    def _row(self, policy: Policy) -> tuple[str, ...]:
        link = f"[{policy.id}](#{_anchor(policy.id)})"
        return link, _plain(policy.title), policy.severity, policy.stage, str(self.meanings[policy.id].version)

    def _lists(self) -> Iterator[str]:
        used = {name for meaning in self.meanings.values() for name in meaning.parts}
        yield "## Lists"
        yield ""
        for name, values in self.bundle.lists.items():
            unused = "" if f"lists.{name}" in used else " (no condition names it)"
            yield f"- `lists.{name}`{unused}: {_entries(values)}"
        yield ""

    def _policy(self, policy: Policy) -> Iterator[str]:
        yield f"## {policy.id}"
        yield ""
        yield f"**{_plain(policy.title)}.** Severity {policy.severity}, {_STAGES[policy.stage]}."
        yield ""
        if policy.description:
            yield _plain(policy.description.strip())
            yield ""
        for basis in policy.basis:
            parts = [basis.document, basis.clause, f"as of {basis.as_of}" if basis.as_of else ""]
            yield f"- Basis: {'; '.join(_plain(part) for part in parts if part)}"
        yield from self._approvals(policy)
        yield from _handling(policy)
        yield from self._read_lists(policy)
        yield f"- Digest of its meaning: `{self.meanings[policy.id].digest}`"
        yield ""
        if policy.applies is not None:
            yield from _condition("Applies where", policy.applies)
        for name, condition in policy.lets.items():
            yield from _condition(f"`{name}` stands for", condition)
        verb = "violated where" if policy.window is None else "counts an event where"
        for revision in policy.revisions:
            yield from _condition(f"Version {revision.version}, {_range(revision)}: {verb}", revision.when)
            if revision.condition is not None:
                yield from _condition("and is violated where their `value` is such that", revision.condition)
        if policy.window is not None:
            for title, condition in conditions_of(policy.window):
                yield from _condition(title, condition)
        for exception in policy.exceptions:
            yield from self._exception(exception)

    def _approvals(self, policy: Policy) -> Iterator[str]:
        """Yield who approved the policy as it is, that nobody did, and who approved what it meant before."""
        digest = self.meanings[policy.id].digest
        own = [one for one in self.bundle.approvals if one.policy_id == policy.id]
        if self.bundle.approvals and not any(one.digest == digest for one in own):
            yield "- Nobody approved what it means now."
        for one in sorted(own, key=lambda one: (one.digest != digest, one.date)):
            when = "as it is" if one.digest == digest else "as it was before"
            by = f"by {_line(one.approved_by)} on {format_time(one.date)[:10]}: {_line(one.reason)}"
            yield f"- Approved {when}, version {one.version}, {by}"

    def _read_lists(self, policy: Policy) -> Iterator[str]:
        for name in (name for name in self.meanings[policy.id].parts if name.startswith("lists.")):
            yield f"- `{name}`: {_entries(self.bundle.lists[name.removeprefix('lists.')], MAX_ENTRIES)}"

    def _exception(self, exception: PolicyException) -> Iterator[str]:
        expired = ", which is over" if exception.expires <= self.now else ""
        who = f"approved by {_plain(exception.approved_by)}: {_plain(exception.reason)}"
        yield from _condition(
            f"Exception {_plain(exception.id)}, until {_time(exception.expires)}{expired}, {who}. Where", exception.when
        )


def _application(name: str, entry: RegistryEntry) -> list[str]:
    texts = [name, entry.owner, entry.team, entry.sector, entry.jurisdiction]
    lists = [", ".join(values or ()) for values in (entry.approved_use_cases, entry.data_classes)]
    return [_plain(cell or "") for cell in (*texts, *lists)]


def _handling(policy: Policy) -> Iterator[str]:
    yield f"- Reads: {', '.join(f'`{name}`' for name in _fields(policy))}"
    if policy.window is None:
        yield f"- {_UNKNOWN[policy.on_unknown]}"
    else:
        yield f"- Decided over many events: {in_words(policy.window)}"
        yield "- An event that leaves open whether it counts is not counted; a back-test says how many those are."
    yield f"- Message: {_line(policy.message.text)}"
    if policy.evidence:
        yield f"- Evidence: {_named(policy.evidence)}"
    if policy.alert is not None:
        fields = _named(policy.alert.dedup_by) or "policy"
        yield f"- Alerts: one for each {fields} within {span_in_words(policy.alert.window)}"
    yield f"- Tests: {len(policy.tests) + len(policy.window_tests)}"


def _entries(values: ListValues, most: int | None = None) -> str:
    """Return the entries of a list, all of them or the first ones."""
    shown = ", ".join(f"`{_code(str(value))}`" for value in values[:most]) or "empty"
    return shown if most is None or len(values) <= most else f"{shown} and {len(values) - most:,} more, see below"


def _condition(head: str, condition: Condition) -> Iterator[str]:
    text = condition.source.text.strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    yield f"{head}"
    yield ""
    yield f"{fence}cel"
    yield text.rstrip()
    yield fence
    yield ""


def _fields(policy: Policy) -> list[str]:
    conditions = [revision.when for revision in policy.revisions]
    conditions += [policy.applies] if policy.applies is not None else []
    window, more = policy.window, set()
    if window is not None:
        conditions += window.conditions
        more = {*window.group_by, *([window.field] if window.field else [])}
    return sorted(
        {".".join(path) for condition in conditions for path in fields_read(condition)} | set(map(".".join, more))
    )


def _range(revision: Revision) -> str:
    start = f"from {_time(revision.start)}" if revision.start is not None else ""
    end = f"until {_time(revision.end)}" if revision.end is not None else ""
    return " ".join(part for part in (start, end) if part) or "for events of any time"


def _time(micros: int) -> str:
    return format_time(micros) if micros < MAX_TIME * 50 else "the end of time"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _named(paths: Iterable[Path]) -> str:
    return ", ".join(f"`{'.'.join(path)}`" for path in paths)


def _plain(text: str) -> str:
    """Return a text of an author without what a reader of Markdown would take for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _line(text: str) -> str:
    """Return a text of an author on one line."""
    return _plain(" ".join(text.split()))


def _code(text: str) -> str:
    return text.replace("`", "'")


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
