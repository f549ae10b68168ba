"""Writes a bundle as a page of Markdown, for people who have to know what it says without reading conditions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.events.times import MAX_TIME, format_time
from usageaudit.policy.language import fields_read, lists_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from usageaudit.policy.language import Condition, Path
    from usageaudit.policy.model import Bundle, Policy, PolicyException, RegistryEntry, Revision

_STAGES = {
    "draft": "draft: not judged yet",
    "shadow": "shadow: judged and recorded, never alerted",
    "enforce": "enforced",
    "retired": "retired: no longer judged",
}
_UNKNOWN = {
    "record": "An event that leaves it open is recorded as undecided, with the fields that would have decided it.",
    "violate": "An event that leaves it open counts as a violation, which names the fields that are missing.",
    "ignore": "An event that leaves it open is not recorded.",
}


def markdown(bundle: Bundle) -> str:
    """Return the page of a bundle: every policy with its basis, reading, conditions and exceptions, and the lists."""
    return "\n".join(_page(bundle)).rstrip("\n") + "\n"


def _page(bundle: Bundle) -> Iterator[str]:
    yield f"# Policies: {bundle.name}"
    yield ""
    commit = f", git commit `{bundle.commit}`" if bundle.commit else ""
    yield f"Bundle `{bundle.hash}`{commit}."
    yield ""
    yield from _table(
        ("policy", "title", "severity", "stage"),
        [(f"[{p.id}](#{_anchor(p.id)})", _plain(p.title), p.severity, p.stage) for p in bundle.policies],
    )
    for policy in bundle.policies:
        yield from _policy(policy)
    if bundle.lists:
        yield "## Lists"
        yield ""
        for name, values in bundle.lists.items():
            yield f"- `lists.{name}`: {', '.join(f'`{_code(str(value))}`' for value in values) or 'empty'}"
        yield ""
    if bundle.registry:
        yield "## Registry of applications"
        yield ""
        columns = ("application", "owner", "team", "sector", "jurisdiction", "approved use cases", "data classes")
        yield from _table(columns, [_application(name, entry) for name, entry in bundle.registry.items()])


def _application(name: str, entry: RegistryEntry) -> list[str]:
    texts = [name, entry.owner, entry.team, entry.sector, entry.jurisdiction]
    lists = [", ".join(values or ()) for values in (entry.approved_use_cases, entry.data_classes)]
    return [_plain(cell or "") for cell in (*texts, *lists)]


def _policy(policy: Policy) -> Iterator[str]:
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
    yield f"- Reads: {', '.join(f'`{name}`' for name in _fields(policy))}"
    yield f"- {_UNKNOWN[policy.on_unknown]}"
    yield f"- Message: {_plain(policy.message.text)}"
    if policy.evidence:
        yield f"- Evidence: {_named(policy.evidence)}"
    if policy.alert is not None:
        fields = _named(policy.alert.dedup_by) or "policy"
        yield f"- Alerts: one for each {fields} within {_span(policy.alert.window)}"
    yield f"- Tests: {len(policy.tests)}"
    yield ""
    if policy.applies is not None:
        yield from _condition("Applies where", policy.applies)
    for name, condition in policy.lets.items():
        yield from _condition(f"`{name}` stands for", condition)
    for revision in policy.revisions:
        yield from _condition(f"Version {revision.version}, {_range(revision)}: violated where", revision.when)
    for exception in policy.exceptions:
        yield from _exception(exception)


def _exception(exception: PolicyException) -> Iterator[str]:
    who = f"approved by {_plain(exception.approved_by)}: {_plain(exception.reason)}"
    yield from _condition(
        f"Exception {_plain(exception.id)}, until {_time(exception.expires)}, {who}. Where", exception.when
    )


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
    fields = {".".join(path) for condition in conditions for path in fields_read(condition)}
    lists = {f"lists.{name}" for condition in conditions for name in lists_read(condition)}
    return [*sorted(fields), *sorted(lists)]


def _range(revision: Revision) -> str:
    start = f"from {_time(revision.start)}" if revision.start is not None else ""
    end = f"until {_time(revision.end)}" if revision.end is not None else ""
    return " ".join(part for part in (start, end) if part) or "for events of any time"


def _time(micros: int) -> str:
    return format_time(micros) if micros < MAX_TIME * 50 else "the end of time"


def _span(micros: int) -> str:
    seconds = micros // 1_000_000
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"


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


def _code(text: str) -> str:
    return text.replace("`", "'")


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
