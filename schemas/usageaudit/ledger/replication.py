"""The statements of the migrations as a cluster of replicas needs them: the same tables and views, on every server.

A migration is written once, for one server. Here each of its statements is rewritten, whole or not at all: tables get
engines that replicate, they are made ON CLUSTER, and views read the ledger through a Distributed table, which
passes over a replica that lags. The fence goes to Keeper, where one key holds one partition's epoch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from usageaudit.ledger.ddl import FENCE, LEDGER

FENCE_KEY = "partition_key"
"""The column that the fence has on a cluster beside its own: Keeper's tables have one column as their key."""

DISTRIBUTED = "ledger_distributed"
"""The table through which views read the ledger."""

_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS (?P<name>\w+)\n\((?P<body>.*)\n\)\nENGINE = (?P<engine>\w+)\n(?P<clauses>.*)",
    re.DOTALL,
)
_ALTER = re.compile(r"ALTER TABLE (?P<name>\w+) (?P<change>(ADD|MODIFY|MATERIALIZE|DROP|COMMENT)\b.*)", re.DOTALL)
_VIEW = re.compile(
    r"(?P<create>CREATE OR REPLACE VIEW|CREATE VIEW IF NOT EXISTS) (?P<name>\w+) AS\n(?P<query>.*)", re.DOTALL
)
_FROM_LEDGER = re.compile(rf"\b(FROM|JOIN) {LEDGER.name}\b")
_SETTINGS = re.compile(r"\bSETTINGS (?P<settings>[^()]*)\Z")
_OWN_DEDUPLICATION = re.compile(r"\bnon_replicated_deduplication_window = 0\b")
# A replica that was killed while it held hardly any rows has, on its disk, mostly what Keeper does not know of. It puts
# that aside and fetches the rest from the others; by default it would wait for an operator instead.
_REPLICATED_SETTINGS = "replicated_max_ratio_of_wrong_parts = 1, replicated_deduplication_window = 0"


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster by the name in its servers' configuration, and the database that the tables are in."""

    cluster: str
    database: str

    @property
    def on(self) -> str:
        """The clause that sends a statement to every server."""
        return f"ON CLUSTER {_name(self.cluster)}"


def statements_for(statement: str, place: Place) -> tuple[str, ...]:
    """Return what a statement of a migration is on a cluster. Raises ValueError for one of an unknown form."""
    if found := _TABLE.fullmatch(statement):
        return _table(found, place)
    if found := _ALTER.fullmatch(statement):
        return _altered(found, place)
    if found := _VIEW.fullmatch(statement):
        query = _FROM_LEDGER.sub(rf"\1 {DISTRIBUTED}", found["query"])
        return (f"{found['create']} {found['name']} {place.on} AS\n{query}",)
    raise ValueError(f"this statement has no form for a cluster: {statement[:200]}")


def _table(found: re.Match[str], place: Place) -> tuple[str, ...]:
    head = f"CREATE TABLE IF NOT EXISTS {found['name']} {place.on}\n("
    if found["name"] == FENCE.name:
        path = _text(f"/usageaudit/{place.database}/{FENCE.name}")
        columns = f"\n    `{FENCE_KEY}` String,{found['body']}"
        return (f"{head}{columns}\n)\nENGINE = KeeperMap({path})\nPRIMARY KEY {FENCE_KEY}",)
    path = _text(f"/clickhouse/usageaudit/{place.database}/{{shard}}/{found['name']}")
    engine = f"Replicated{found['engine']}({path}, '{{replica}}')"
    created = f"{head}{found['body']}\n)\nENGINE = {engine}\n{_with_settings(found['clauses'])}"
    return (created, _distributed("CREATE TABLE IF NOT EXISTS", place)) if found["name"] == LEDGER.name else (created,)


def _with_settings(clauses: str) -> str:
    """Return the clauses of a table with deduplication of blocks off: recovery reads back and writes again."""
    if _OWN_DEDUPLICATION.search(clauses):
        return _OWN_DEDUPLICATION.sub(_REPLICATED_SETTINGS, clauses)
    if _SETTINGS.search(clauses):
        return f"{clauses}, {_REPLICATED_SETTINGS}"
    return f"{clauses}\nSETTINGS {_REPLICATED_SETTINGS}"


def _altered(found: re.Match[str], place: Place) -> tuple[str, ...]:
    if found["name"] == FENCE.name:
        raise ValueError("the fence is a table of Keeper on a cluster, which takes no ALTER: make a new table")
    # It replicates by itself; several servers that begin the same one get in each other's way.
    changed = found[0]
    return (changed, _distributed("CREATE OR REPLACE TABLE", place)) if found["name"] == LEDGER.name else (changed,)


def _distributed(create: str, place: Place) -> str:
    source = f"{_text(place.cluster)}, {_text(place.database)}, {_text(LEDGER.name)}"
    return f"{create} {DISTRIBUTED} {place.on} AS {LEDGER.name}\nENGINE = Distributed({source})"


def _name(text: str) -> str:
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
