"""Doubts about a bundle that has no errors: what can never apply, is never used, or that no test shows."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from usageaudit.events.times import format_time
from usageaudit.policy.folders import LISTS
from usageaudit.policy.language import Call, Const, Field, Has, Named, Node, children
from usageaudit.policy.language.demands import Effort
from usageaudit.policy.language.diagnostics import at
from usageaudit.policy.language.possible import satisfiable
from usageaudit.policy.windows.doubts import window_doubts, window_test_doubts
from usageaudit.policy.yamltree import Mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Mapping as AnyMapping

    from usageaudit.policy.gathering import Loaded
    from usageaudit.policy.language import Condition, Diagnostic
    from usageaudit.policy.model import ListValues, Policy, PolicyException, RegistryEntry
    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Place


MAX_EFFORT = 2_000_000
"""How many terms are looked at for contradictions between the conditions of all policies of a bundle."""


class Doubts:
    """Looks at the policies of a bundle one after another, and then at what none of them used."""

    def __init__(
        self, lists: AnyMapping[str, ListValues], registry: AnyMapping[str, RegistryEntry], report: Report
    ) -> None:
        self._lists, self._registry, self._report = lists, registry, report
        self._used: set[str] = set()
        self._effort = Effort(MAX_EFFORT)

    def of_policy(self, policy: Policy, place: Place, *, own: bool) -> None:
        """Warn of what is doubtful in one policy, which stands at a place.

        Where it is not the bundle's own but of a pack, its tests are the pack's: they run by the lists and the
        registry of that, and what they do not show is no matter of who fills these in.
        """
        nodes = list(_nodes(policy))
        lists = {node.list_name for node in nodes if isinstance(node, Const) and node.list_name}
        self._used |= lists
        registered = [node for node in nodes if isinstance(node, Field) and node.path[0] == "registry"]
        self._report.add(*_gaps(policy), *_unused_lets(policy, nodes), *_contradictions(policy, self._effort))
        self._report.add(*_exceptions(policy, self._effort))
        if registered and not self._registry:
            self._without_registry(registered, nodes)
        # What an empty list keeps from happening, no test can show.
        empty = any(not self._lists.get(name, (True,)) for name in lists)
        found: list[tuple[str, str]] = []
        if policy.window is not None:
            found += window_doubts(policy, policy.window, registered=bool(self._registry), effort=self._effort)
        if own and policy.stage != "retired":
            found += _tests(policy, all_can_be_shown=not empty) if policy.window is None else window_test_doubts(policy)
        for message, hint in found:
            self._report.warning(place, message, hint)

    def _without_registry(self, registered: list[Field], nodes: list[Node]) -> None:
        """Warn of a read of the registry in a bundle without one, unless the policy asks whether an entry is there."""
        if not any(isinstance(node, Has) and node.path[0] == "registry" for node in nodes):
            message = f"{'.'.join(registered[0].path)} is unknown for every event, as the bundle has no registry"
            self._report.add(at(registered[0].span, "warning", message, "describe the applications in registry.yaml"))

    def of_lists(self, parts: Iterable[Loaded]) -> None:
        """Warn of the lists that no policy names."""
        for loaded in parts:
            tree = loaded.trees.get(LISTS)
            for key, _ in tree.entries if isinstance(tree, Mapping) else ():
                if key.text not in self._used:
                    self._report.warning(key.place, f"no condition names lists.{key.text}")


def _nodes(policy: Policy) -> Iterator[Node]:
    """Yield the nodes of all conditions of a policy, each once."""
    seen: set[int] = set()
    open_: list[Node] = [condition.root for condition in (*_conditions(policy), *policy.lets.values())]
    while open_:
        node = open_.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            open_.extend(children(node))


def _conditions(policy: Policy) -> tuple[Condition, ...]:
    revisions = (one for each in policy.revisions for one in (each.when, each.condition) if one is not None)
    exceptions = (exception.when for exception in policy.exceptions)
    window = policy.window.conditions if policy.window is not None else ()
    return (*revisions, *exceptions, *((policy.applies,) if policy.applies else ()), *window)


def _gaps(policy: Policy) -> Iterator[Diagnostic]:
    in_order = sorted(policy.revisions, key=lambda revision: -inf if revision.start is None else revision.start)
    for earlier, later in pairwise(in_order):
        if earlier.end is not None and later.start is not None and earlier.end < later.start:
            between = f"from {format_time(earlier.end)} until {format_time(later.start)}"
            hint = f"let version {earlier.version} end where version {later.version} begins"
            yield at(later.when.root.span, "warning", f"no revision is in force {between}", hint)


def _unused_lets(policy: Policy, nodes: list[Node]) -> Iterator[Diagnostic]:
    named = {node.name for node in nodes if isinstance(node, Named)}
    for name, condition in policy.lets.items():
        if name not in named:
            yield at(condition.root.span, "warning", f"no condition names {name}", "remove it from let")


def _contradictions(policy: Policy, effort: Effort) -> Iterator[Diagnostic]:
    """Yield a warning for each revision whose condition is never true where the policy applies."""
    if policy.applies is None or not policy.applies.possible.true:
        return
    for revision in policy.revisions:
        root = revision.when.root
        both = [(policy.applies.root, False), (root, False)]
        if revision.when.possible.true and not satisfiable(both, effort):
            yield at(root.span, "warning", "this is never true where applies is", "the two contradict each other")


def _exceptions(policy: Policy, effort: Effort) -> Iterator[Diagnostic]:
    starts = [-inf if revision.start is None else revision.start for revision in policy.revisions]
    longest: dict[str, PolicyException] = {}
    for exception in policy.exceptions:
        message, hint = f"exception {exception.id} never applies", ""
        text = "true" if _certain(exception.when.root) else exception.when.source.text.strip()
        before = _covering((longest.get("true"), longest.get(text)), exception)
        longest[text] = max(longest.get(text, exception), exception, key=lambda one: one.expires)
        if exception.expires <= min(starts):
            hint = "it expires before the first revision begins"
        elif before is not None:
            hint = f"{before.id}, which stands before it, holds for the same events"
        elif _never_met(policy, exception, effort):
            hint = "it contradicts the conditions that it is an exception to"
        if hint:
            yield at(exception.when.root.span, "warning", message, hint)


def _covering(earlier: Iterable[PolicyException | None], later: PolicyException) -> PolicyException | None:
    """Return which of some exceptions that hold wherever a later one does also holds as long."""
    return next((one for one in earlier if one is not None and one.expires >= later.expires), None)


def _certain(node: Node) -> bool:
    """Whether a truth is true for every event, and never unknown; False where that is not plain."""
    match node:
        case Const(value=value):
            return value is True
        case Named(body=body):
            return _certain(body)
        case Has(leaves=leaves):
            return any(isinstance(leaf, Field) and leaf.required for leaf in leaves)
        case Call(operator=row, arguments=arguments) if row.name in ("&&", "||"):
            return (all if row.name == "&&" else any)(map(_certain, arguments))
        case _:
            return False


def _never_met(policy: Policy, exception: PolicyException, effort: Effort) -> bool:
    """Whether no event that violates a policy can meet an exception, although each by itself can be."""
    if policy.on_unknown == "violate" or not exception.when.possible.true:
        return False
    applies = [(policy.applies.root, False)] if policy.applies is not None else []
    ways = [[*applies, (revision.when.root, False)] for revision in policy.revisions]
    if any(satisfiable([*way, (exception.when.root, False)], effort) for way in ways):
        return False
    return any(satisfiable(way, effort) for way in ways)


def _tests(policy: Policy, *, all_can_be_shown: bool) -> Iterator[tuple[str, str]]:
    """Yield what the tests of a policy do not show, and what to do."""
    expected = {test.expect for test in policy.tests}
    if not expected:
        yield "the policy has no test", "add tests: events with the verdicts that they must get"
        return
    if not all_can_be_shown:
        return
    possible = [revision.when.possible for revision in policy.revisions]
    if not expected & {"violation", "exempted"} and any(one.true for one in possible):
        yield "no test shows a violation", "add a test that expects one"
    if "ok" not in expected and any(one.false for one in possible):
        yield "no test shows an event that is ok", "add a test that expects ok"
