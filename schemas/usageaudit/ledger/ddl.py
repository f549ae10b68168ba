"""The tables of the store and the statements that create them, derived from the ledger's columns.

`migrations/` holds what a store really runs; a test shows that it arrives at what this file says. Every table takes
appends only. What is appended twice has the same key both times and is read once, through the views.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.ledger.aggregates import AGGREGATE_VIEWS
from usageaudit.ledger.alert_views import ALERT_VIEWS
from usageaudit.ledger.columns import COLUMNS
from usageaudit.ledger.projections import PROJECTIONS
from usageaudit.ledger.views import ROW_VIEWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.ledger.view import View


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table: name, type with its codec, meaning, and whether it may identify a person."""

    name: str
    type: str
    doc: str
    personal: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what one row is, and everything that CREATE TABLE says of it."""

    name: str
    row: str
    columns: tuple[Field, ...]
    order_by: str
    engine: str = "MergeTree"
    partition_by: str = ""
    ttl: str = ""
    inner: tuple[str, ...] = ()
    settings: Mapping[str, int] = field(default_factory=dict)

    @property
    def create(self) -> str:
        """The statement that creates the table where it is not there yet."""
        columns = [f"`{column.name}` {column.type}" for column in self.columns]
        body = ",\n    ".join((*columns, *self.inner))
        clauses = [f"CREATE TABLE IF NOT EXISTS {self.name}\n(\n    {body}\n)", f"ENGINE = {self.engine}"]
        if self.partition_by:
            clauses.append(f"PARTITION BY {self.partition_by}")
        clauses.append(f"ORDER BY {self.order_by}")
        if self.ttl:
            clauses.append(f"TTL {self.ttl}")
        if self.settings:
            clauses.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in self.settings.items()))
        return "\n".join(clauses)


LEDGER = Table(
    name="ledger",
    row="a stream record, whatever it was",
    columns=tuple(Field(column.name, column.type, column.doc, column.personal) for column in COLUMNS),
    # Rows that are asked for together are of one time; a batch is one block of one month, so one part.
    order_by="(event_time, event_source, event_id)",
    partition_by="toYYYYMM(ingest_time)",
    # Recovery asks for the offsets from one on: with the index it passes over granules that lie before.
    # The scheduler asks for what is new of a partition: beside the offsets, whose level differs from partition to
    # partition, the time of recording says which granules are old.
    inner=(
        "INDEX offsets offset TYPE minmax GRANULARITY 1",
        "INDEX ingested ingest_time TYPE minmax GRANULARITY 1",
        *(projection.declaration for projection in PROJECTIONS),
    ),
    settings={
        # A compact part costs the server less than half of what a wide one does, at a hundred columns.
        "min_bytes_for_wide_part": 512 * 1024 * 1024,
        # Recovery reads back what is there; the server's own deduplication would drop what is to be written again.
        "non_replicated_deduplication_window": 0,
    },
)

FENCE = Table(
    name="fence",
    row="a consumer taking a partition over",
    columns=(
        Field("stream", "LowCardinality(String)", "identity of the stream"),
        Field("topic", "LowCardinality(String)", "topic that was taken over"),
        Field("partition", "UInt32", "partition that was taken over"),
        Field("epoch", "UInt64", "how often it has been; rows of a lower epoch are refused from then on"),
        Field("owner", "String", "consumer that took it over"),
        Field("taken_at", "DateTime64(3, 'UTC')", "when"),
    ),
    order_by="(stream, topic, partition, epoch)",
)

REJECTED_PAYLOADS = Table(
    name="rejected_payloads",
    row="the bytes of a rejected record, for thirty days; apart from the ledger, because they may be anything",
    columns=(
        Field("stream", "LowCardinality(String)", "identity of the stream"),
        Field("topic", "LowCardinality(String)", "topic of the record"),
        Field("partition", "UInt32", "partition of the record"),
        Field("offset", "UInt64", "offset of the record"),
        Field("ingest_time", "DateTime64(3, 'UTC')", "when the record was refused"),
        Field("payload", "String CODEC(ZSTD(1))", "its bytes", personal=True),
        Field("header_names", "Array(String)", "names of its headers that have a value, in their order", personal=True),
        Field("header_values", "Array(String)", "values of those headers, as bytes", personal=True),
    ),
    engine="ReplacingMergeTree",
    order_by="(stream, topic, partition, offset)",
    ttl="toDateTime(ingest_time) + toIntervalDay(30)",
)

BUNDLES_LOG = Table(
    name="bundles_log",
    row="a policy bundle being loaded",
    columns=(
        Field("hash", "String", "hash of the bundle, as ledger rows name it"),
        Field("name", "String", "name of the bundle"),
        Field("archive", "String CODEC(ZSTD(1))", "its files, enough to judge with it again"),
        Field("loaded_by", "String", "who loaded it"),
        Field("loaded_at", "DateTime64(3, 'UTC')", "when"),
        Field("git_commit", "String", "commit that its folder was at; empty where it was none"),
    ),
    order_by="(hash, loaded_at)",
)

FINDINGS_LOG = Table(
    name="findings_log",
    row="a finding being appended",
    columns=(
        Field("finding_id", "String", "32 hex digits, the same for the same finding"),
        Field("kind", "LowCardinality(String)", "what made it: windowed, offset_gap, rejudged, exception_expired …"),
        Field("effect", "LowCardinality(String)", "violation, cleared or notice; only the first is a violation"),
        Field("policy_id", "LowCardinality(String)", "policy, as pack/clause; empty where none is behind it"),
        Field("policy_version", "UInt32", "its version"),
        Field("bundle", "LowCardinality(String)", "hash of the bundle it came from"),
        Field("severity", "LowCardinality(String)", "info, low, medium, high or critical"),
        Field("window_start", "DateTime64(6, 'UTC')", "start of the time it speaks of"),
        Field("window_end", "DateTime64(6, 'UTC')", "end of that time"),
        Field("group_key", "String", "what it was found for: the values of the policy's group_by", personal=True),
        Field("event_refs", "Array(Tuple(source String, id String))", "events that it rests on"),
        Field("message", "String", "what was found", personal=True),
        Field("created", "DateTime64(3, 'UTC')", "when it was appended"),
        Field("stage", "LowCardinality(String)", "enforce or shadow; empty counts as enforce"),
        Field("verdict", "LowCardinality(String)", "of kind rejudged: what the policy says of the event now"),
        Field("old_bundle", "LowCardinality(String)", "of kind rejudged: hash of the bundle that said otherwise"),
        Field("missing_fields", "Array(LowCardinality(String))", "of kind rejudged: fields that were unknown"),
        Field("evidence", "String", "of kind rejudged: fields that the policy names, a JSON object", personal=True),
        Field("application_name", "LowCardinality(String)", "of kind rejudged: application of the event"),
        Field("actor_organization", "LowCardinality(Nullable(String))", "of kind rejudged: organisation of the actor"),
        Field("actor_id", "String", "of kind rejudged: pseudonymous id of the actor", personal=True),
        Field("model_provider", "LowCardinality(String)", "of kind rejudged: provider of the model"),
        Field("model_name", "LowCardinality(String)", "of kind rejudged: model that was requested"),
    ),
    order_by="(finding_id, created)",
    # The scheduler looks for what a policy found in a stretch of time; ids do not tell.
    inner=(
        (
            "PROJECTION by_policy (SELECT policy_id, policy_version, kind, finding_id, group_key, effect, message, "
            "window_start, window_end, created ORDER BY policy_id, window_end)"
        ),
    ),
)

WINDOW_EVENTS = Table(
    name="window_events",
    row="an event that a windowed policy counts, kept for as long as its windows need it",
    columns=(
        Field("rule", "LowCardinality(String)", "digest of the policy's revision and of all that it reads"),
        Field("key", "Array(String)", "values of the policy's group_by", personal=True),
        Field("event_time", "DateTime64(6, 'UTC')", "time of the event"),
        Field("event_source", "LowCardinality(String)", "source of the event"),
        Field("event_id", "String", "id of the event"),
        Field("amount", "Decimal(38, 9)", "what value_sum adds"),
        Field("text", "String", "what value_count tells apart", personal=True),
        Field("role", "UInt32", "a bit for each step of temporal_ordered; of absence 1 opens, 2 is what was expected"),
    ),
    engine="ReplacingMergeTree",
    order_by="(rule, key, event_time, event_source, event_id)",
    # A window is read by group and by time: within a group's rows of a week, those of the last minutes are few.
    partition_by="toYYYYMMDD(event_time)",
)

WINDOW_PROGRESS = Table(
    name="window_progress",
    row="how far a windowed policy is",
    columns=(
        Field("rule", "LowCardinality(String)", "digest of the policy's revision and of all that it reads"),
        Field("policy_id", "LowCardinality(String)", "policy, as pack/clause"),
        Field("policy_version", "UInt32", "its version"),
        Field("epoch", "UInt64", "epoch of the scheduler's lease"),
        Field("step", "UInt64", "how many steps there were"),
        Field("since", "DateTime64(6, 'UTC')", "windows that crossed before are history, which a back-test tells of"),
        Field("watermark", "DateTime64(6, 'UTC')", "windows that crossed up to it were looked at"),
        Field("seen", "DateTime64(3, 'UTC')", "when the last row that was read had been recorded"),
        Field(
            "positions",
            "Array(Tuple(stream String, topic String, partition UInt32, next UInt64))",
            "the next offset of each partition",
        ),
        Field("written", "DateTime64(3, 'UTC')", "when"),
    ),
    engine="ReplacingMergeTree",
    order_by="(policy_id, policy_version, rule, epoch)",
)

LEASES = Table(
    name="leases",
    row="a lease being taken or renewed",
    columns=(
        Field("name", "LowCardinality(String)", "what there is one of at a time, such as the scheduler"),
        Field("epoch", "UInt64", "how often it changed hands"),
        Field("holder", "String", "who has it"),
        Field("until", "DateTime64(3, 'UTC')", "until when, if it is not renewed"),
    ),
    order_by="(name, epoch, until)",
    ttl="toDateTime(until) + toIntervalDay(7)",
)

ALERT_DECISIONS = Table(
    name="alert_decisions",
    row="what the dispatcher of alerts decided about a violation, or about a row of a finding",
    columns=(
        Field("violation_id", "String", "id of the violation, or of the finding"),
        Field("recorded", "DateTime64(3, 'UTC')", "when the violation was recorded, or this row of the finding"),
        Field(
            *("outcome", "LowCardinality(String)"),
            "opened, gathered (to an alert that was open), unrouted (nobody is to be told), cleared or resolved (the"
            " last finding of its alert was cleared), or unchanged (the finding said so before)",
        ),
        Field("alert_id", "String", "alert that it belongs to; empty where there is none"),
        Field("gathering", "String", "digest of what the violations of an alert have in common"),
        Field("kind", "LowCardinality(String)", "event, or the kind of the finding"),
        Field("policy_id", "LowCardinality(String)", "policy, as pack/clause; empty where none is behind it"),
        Field("policy_version", "UInt32", "its version"),
        Field("severity", "LowCardinality(String)", "info, low, medium, high or critical"),
        Field("group", "Map(String, String)", "values of the fields that alerts are gathered by", personal=True),
        Field("event_source", "LowCardinality(String)", "CloudEvents source of the event; empty for a finding"),
        Field("event_id", "String", "CloudEvents id of the event; empty for a finding"),
        Field("event_time", "DateTime64(6, 'UTC')", "time of the event; of a finding the end of its window"),
        Field("routes", "Array(LowCardinality(String))", "routes that it took"),
        Field("targets", "Array(LowCardinality(String))", "targets that are told, once each"),
        Field("epoch", "UInt64", "epoch of the dispatcher's lease"),
        Field("decided_at", "DateTime64(3, 'UTC')", "when"),
    ),
    order_by="(recorded, violation_id)",
    # Open alerts are looked for by what they gather, and what was gathered by its alert.
    inner=(
        "INDEX decided decided_at TYPE minmax GRANULARITY 1",
        "PROJECTION by_gathering (SELECT gathering, outcome, recorded, alert_id ORDER BY gathering, outcome, recorded)",
        "PROJECTION by_alert (SELECT alert_id, outcome, recorded, violation_id ORDER BY alert_id, outcome)",
    ),
)

ALERT_DELIVERIES_LOG = Table(
    name="alert_deliveries_log",
    row="a change of the state of a delivery: each attempt, and what it came to",
    columns=(
        Field("delivery_id", "String", "32 hex digits, by which the receiver drops repeats"),
        Field("alert_id", "String", "alert that is told of"),
        Field("target", "LowCardinality(String)", "name of the target"),
        Field("occasion", "LowCardinality(String)", "opened, escalated, resolved or test"),
        Field("change", "UInt32", "how many changes there were before"),
        Field(
            *("state", "LowCardinality(String)"),
            "waiting, postponed (until quiet hours end), retrying, delivered, or dead (given up)",
        ),
        Field("attempts", "UInt32", "how many attempts there were"),
        Field("status", "UInt16", "status of HTTP of the last answer; 0 where there was none"),
        Field("response", "String", "the beginning of the last answer, or what went wrong; secrets are masked"),
        Field("next_try", "DateTime64(3, 'UTC')", "not before then; 1970 where nothing more is tried"),
        Field("epoch", "UInt64", "epoch of the dispatcher's lease; 0 where a person wrote it"),
        Field("at", "DateTime64(3, 'UTC')", "when"),
    ),
    order_by="(at, delivery_id, change)",
)

ALERT_ACKNOWLEDGEMENTS = Table(
    name="alert_acknowledgements",
    row="somebody acknowledging an alert; the first counts",
    columns=(
        Field("alert_id", "String", "alert that was acknowledged"),
        Field("acknowledged_by", "String", "who did", personal=True),
        Field("via", "LowCardinality(String)", "how: link, api or cli"),
        Field("comment", "String", "what they said", personal=True),
        Field("at", "DateTime64(3, 'UTC')", "when"),
    ),
    order_by="(alert_id, at)",
)

ALERT_PROGRESS = Table(
    name="alert_progress",
    row="how far the dispatcher of alerts has read",
    columns=(
        Field("epoch", "UInt64", "epoch of the dispatcher's lease"),
        Field("step", "UInt64", "how many steps there were"),
        Field("seen", "DateTime64(3, 'UTC')", "when the last row of the ledger that was read had been recorded"),
        Field("found", "DateTime64(3, 'UTC')", "when the last finding that was read had been appended"),
        Field(
            "positions",
            "Array(Tuple(stream String, topic String, partition UInt32, next UInt64))",
            "the next offset of each partition",
        ),
        Field("written", "DateTime64(3, 'UTC')", "when"),
    ),
    engine="ReplacingMergeTree",
    order_by="epoch",
)

POLICY_APPROVALS_LOG = Table(
    name="policy_approvals_log",
    row="an approval of a policy, in a bundle that was loaded",
    columns=(
        Field("bundle", "LowCardinality(String)", "hash of the bundle that holds the approval"),
        Field("policy_id", "LowCardinality(String)", "policy that was approved, as pack/clause"),
        Field("policy_version", "UInt32", "its version at the time"),
        Field("digest", "String", "digest of the meaning that was approved"),
        Field("approved_by", "String", "who approved it", personal=True),
        Field("reason", "String", "why", personal=True),
        Field("approved_at", "DateTime64(6, 'UTC')", "when"),
        Field(
            "current", "UInt8", "1 where the policy means in this bundle what was approved, 0 where it changed since"
        ),
        Field("recorded_at", "DateTime64(3, 'UTC')", "when the bundle was loaded"),
    ),
    order_by="(bundle, policy_id, recorded_at)",
)

SCHEMA_MIGRATIONS = Table(
    name="schema_migrations",
    row="a migration that was applied",
    columns=(
        Field("version", "UInt32", "number of the migration"),
        Field("name", "String", "name of its file"),
        Field("digest", "String", "SHA-256 of its text, hex"),
        Field("applied_at", "DateTime64(3, 'UTC')", "when"),
    ),
    order_by="version",
)

TABLES: tuple[Table, ...] = (
    *(SCHEMA_MIGRATIONS, LEDGER, FENCE, REJECTED_PAYLOADS, BUNDLES_LOG, FINDINGS_LOG),
    *(POLICY_APPROVALS_LOG, WINDOW_EVENTS, WINDOW_PROGRESS, LEASES),
    *(ALERT_DECISIONS, ALERT_DELIVERIES_LOG, ALERT_ACKNOWLEDGEMENTS, ALERT_PROGRESS),
)
"""Every table, in the order of creation."""
VIEWS: tuple[View, ...] = (*ROW_VIEWS, *AGGREGATE_VIEWS, *ALERT_VIEWS)
"""Every view, each after those it reads from."""


def statements() -> tuple[str, ...]:
    """Return the statements that create everything in an empty database, in order."""
    return (*(table.create for table in TABLES), *(view.create for view in VIEWS))
