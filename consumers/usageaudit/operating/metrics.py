"""The metrics of a service, each defined once: name, type, unit, labels and meaning; docs/metrics.md is made from it.

`python -m usageaudit.operating.metrics` writes the table of that page anew; a test fails where it is out of date. Names
follow https://prometheus.io/docs/practices/naming: base units, `_total` for counters. Labels have few values, all named
here, but for topic and partition, of which there is one sample each, and the bundle and version in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from usageaudit.pipeline.activity import FINDING_KINDS, REASONS, RECORD_BOUNDS, SECOND_BOUNDS, SERVERS, STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Kind = Literal["counter", "gauge", "histogram", "info"]

STATUSES = ("accepted", "duplicate", "rejected")
FOLDERS = ("stream", "store", "spool")
SPOOL_STATES = ("owned", "orphaned", "damaged")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `name` as it is exposed, `unit` as a word, `labels` with the values that each may have."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    buckets: Sequence[float] = ()


RECORDS = Metric(
    "usageaudit_records_total",
    "counter",
    "records",
    "Records that this process wrote to the ledger, by what became of them",
    {"status": STATUSES},
)
BATCH_RECORDS = Metric(
    "usageaudit_batch_records",
    "histogram",
    "records",
    "Records in a batch that was written to the ledger; the count is the number of batches",
    buckets=RECORD_BOUNDS,
)
BATCH_SECONDS = Metric(
    "usageaudit_batch_duration_seconds",
    "histogram",
    "seconds",
    "How long each stage of a batch took: poll (waiting for records included), judge (decoding included; "
    "again where some events are recorded already), look_up (of those), insert, acknowledge. One that failed is not in "
    "it",
    {"stage": STAGES},
    SECOND_BOUNDS,
)
LAG_RECORDS = Metric(
    "usageaudit_lag_records",
    "gauge",
    "records",
    "Offsets of a partition of this consumer from the first one that is not in the ledger to the end of the partition "
    "as last heard. Of one that is not taken over yet: from where it was left, or from the committed one",
    {"topic": (), "partition": ()},
)
LAG_SECONDS = Metric(
    "usageaudit_lag_seconds",
    "gauge",
    "seconds",
    "Age of the oldest record of a partition that is not in the ledger, by the record's time, and 0 where all are. "
    "Where that record was not read yet it is the age of the last one recorded, which came before it; no sample where "
    "none was read since the start",
    {"topic": (), "partition": ()},
)
OLDEST = Metric(
    "usageaudit_oldest_unjudged_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "Time of the oldest record that is not judged and in the ledger, over the partitions of this consumer, as the lag "
    "in seconds has it; no sample where all are",
)
PARTITIONS = Metric(
    "usageaudit_partitions",
    "gauge",
    "partitions",
    "Partitions that the group gives to this consumer: owned (taken over) or waiting (to be taken over)",
    {"state": ("owned", "waiting")},
)
TAKEOVERS = Metric(
    "usageaudit_takeovers_total", "counter", "takeovers", "Partitions that were taken over, by fencing and reading back"
)
GIVEN_UP = Metric(
    "usageaudit_partitions_given_up_total",
    "counter",
    "partitions",
    "Partitions whose batch was thrown away, to be taken over again: fenced (another consumer took over), "
    "outcome_unknown (of an insert), retention (the stream no longer has what comes next), takeover_failed, left "
    "(stopped, or lost to another member)",
    {"reason": REASONS},
)
RETRIES = Metric(
    "usageaudit_retries_total",
    "counter",
    "retries",
    "Calls to a server that failed and are made again",
    {"server": SERVERS},
)
REACHABLE = Metric(
    "usageaudit_reachable",
    "gauge",
    "0 or 1",
    "Whether a server answered when it was last asked",
    {"server": SERVERS},
)
READY = Metric("usageaudit_ready", "gauge", "0 or 1", "What /readyz answers: 1 is 200, 0 is 503")
LOOP = Metric(
    "usageaudit_loop_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "When the main loop last gave a sign of life, as /livez has it; no sample before its first step",
)
REJECTED_RATIO = Metric(
    "usageaudit_rejected_ratio",
    "gauge",
    "share from 0 to 1",
    "Records refused of those recorded in the present window of `rejected_window` seconds",
)
REJECTED_ALARM = Metric(
    "usageaudit_rejected_alarm",
    "gauge",
    "0 or 1",
    "1 from when more than `rejected_share` of a window was refused until a whole window has passed without",
)
BUNDLE = Metric(
    "usageaudit_policy_bundle_info",
    "info",
    "1",
    "The policy bundle in force, by its hash",
    {"bundle": ()},
)
RELOADS = Metric(
    "usageaudit_policy_reloads_total",
    "counter",
    "reloads",
    "Times that the policies were read again: loaded, or failed, where those in force stayed",
    {"result": ("loaded", "failed")},
)
EXPIRED = Metric(
    "usageaudit_expired_exceptions",
    "gauge",
    "exceptions",
    "Exceptions in the bundle in force whose time is over",
)
SCHEDULER_LEADS = Metric(
    "usageaudit_scheduler_leads",
    "gauge",
    "0 or 1",
    "Whether the scheduler of this process is the one that runs the windowed policies; one of all of a store is",
)
WINDOWED = Metric(
    "usageaudit_windowed_policies",
    "gauge",
    "rules",
    "Revisions of windowed policies in force, which a scheduler has to step through the ledger with; 0 for none",
)
WINDOW_RULES = Metric(
    "usageaudit_window_rules",
    "gauge",
    "rules",
    "Revisions of windowed policies that the scheduler steps through the ledger with: stepping, or refused by the "
    "store, which the log tells the reason of. Only where this process leads",
    {"state": ("stepping", "refused")},
)
WINDOW_LAG = Metric(
    "usageaudit_window_lag_seconds",
    "gauge",
    "seconds",
    "How far the windowed policy that is furthest behind has been read, as the age of the last row that it has read; 0 "
    "where all have read everything. Only where this process leads",
)
WINDOW_STEP = Metric(
    "usageaudit_window_step_seconds",
    "gauge",
    "seconds",
    "How long the last step of all windowed policies took. Only where this process leads",
)
WINDOW_FINDINGS = Metric(
    "usageaudit_window_findings_total",
    "counter",
    "findings",
    "Findings that the scheduler of this process appended: what windowed policies found, and what late events cleared",
)
FINDINGS = Metric(
    "usageaudit_findings_total",
    "counter",
    "findings",
    "Findings that this process wrote; one that the store had already is counted again",
    {"kind": FINDING_KINDS},
)
ALERTS_LEAD = Metric(
    "usageaudit_alerts_lead",
    "gauge",
    "0 or 1",
    "Whether the dispatcher of this process is the one that delivers alerts; one of all of a store is",
)
ALERT_BACKLOG = Metric(
    "usageaudit_alert_backlog_records",
    "gauge",
    "records",
    "Records of the ledger that the dispatcher has not looked at. Only where this process leads",
)
ALERT_DELIVERIES = Metric(
    "usageaudit_alert_deliveries",
    "gauge",
    "deliveries",
    "Deliveries on their way, by state: waiting for their turn or for quiet hours to end, or retrying after they "
    "failed. Only where this process leads",
    {"state": ("waiting", "retrying")},
)
ALERT_OLDEST = Metric(
    "usageaudit_alert_oldest_delivery_seconds",
    "gauge",
    "seconds",
    "Age of the oldest delivery that is on its way, 0 where there is none; what waits for quiet hours to end has none. "
    "Only where this process leads",
)
ALERT_BREAKERS = Metric(
    "usageaudit_alert_open_breakers",
    "gauge",
    "targets",
    "Targets that failed again and again, and are left alone for a while. Only where this process leads",
)
ALERT_DEAD = Metric(
    "usageaudit_alert_dead_letters_total",
    "counter",
    "deliveries",
    "Deliveries that the dispatcher of this process gave up; `usageaudit alerts list --state dead` names them",
)
SPOOLS = Metric(
    "usageaudit_spools",
    "gauge",
    "spools",
    "Spools of publishers in the folder that the setting `spool` names, or else the default one: owned (its publisher "
    "runs), orphaned (to be shipped by `usageaudit spool drain`), damaged (can't be read, or was set aside). No sample "
    "of this and the next four where that setting is empty",
    {"state": SPOOL_STATES},
)
SPOOL_EVENTS = Metric(
    "usageaudit_spool_events", "gauge", "events", "Events in those spools that the stream has not acknowledged"
)
SPOOL_REFUSED = Metric(
    "usageaudit_spool_refused_events",
    "gauge",
    "events",
    "Events in those spools that the stream will never take; they are kept there",
)
SPOOL_BYTES = Metric("usageaudit_spool_bytes", "gauge", "bytes", "Size of those spools on the disk")
SPOOL_OLDEST = Metric(
    "usageaudit_spool_oldest_timestamp_seconds",
    "gauge",
    "seconds since 1970",
    "When the oldest event in those spools was put there; no sample where they are empty",
)
DISK_FREE = Metric(
    "usageaudit_disk_free_bytes",
    "gauge",
    "bytes",
    "Free bytes of the disk under a folder: of the embedded stream, of the embedded store, of spools",
    {"folder": FOLDERS},
)
DISK_SIZE = Metric("usageaudit_disk_size_bytes", "gauge", "bytes", "Size of that disk", {"folder": FOLDERS})
BUILD = Metric("usageaudit_build_info", "info", "1", "The version of usageaudit", {"version": ()})

METRICS = (
    RECORDS,
    BATCH_RECORDS,
    BATCH_SECONDS,
    LAG_RECORDS,
    LAG_SECONDS,
    OLDEST,
    PARTITIONS,
    TAKEOVERS,
    GIVEN_UP,
    RETRIES,
    REACHABLE,
    READY,
    LOOP,
    REJECTED_RATIO,
    REJECTED_ALARM,
    BUNDLE,
    RELOADS,
    EXPIRED,
    FINDINGS,
    SCHEDULER_LEADS,
    WINDOWED,
    WINDOW_RULES,
    WINDOW_LAG,
    WINDOW_STEP,
    WINDOW_FINDINGS,
    ALERTS_LEAD,
    ALERT_BACKLOG,
    ALERT_DELIVERIES,
    ALERT_OLDEST,
    ALERT_BREAKERS,
    ALERT_DEAD,
    SPOOLS,
    SPOOL_EVENTS,
    SPOOL_REFUSED,
    SPOOL_BYTES,
    SPOOL_OLDEST,
    DISK_FREE,
    DISK_SIZE,
    BUILD,
)
"""Every metric of ours, in the order of docs/metrics.md."""

_BEGIN, _END = "<!-- made by `python -m usageaudit.operating.metrics` -->", "<!-- end -->"


def table() -> str:
    """Return the table of docs/metrics.md: a row a metric."""
    head = "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| `{one.name}` | {one.kind} | {one.unit} | {_labels(one)} | {one.meaning} |\n" for one in METRICS
    )


def with_table(page: str) -> str:
    """Return the text of docs/metrics.md with the table of now between its two marks."""
    made = f"{_BEGIN}\n\n{table()}\n{_END}"
    return re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: made, page, flags=re.DOTALL)


def _labels(metric: Metric) -> str:
    return "; ".join(
        f"`{name}`: {', '.join(values)}" if values else f"`{name}`" for name, values in metric.labels.items()
    )


def main() -> None:
    """Write the table of docs/metrics.md anew, in the folder that holds `docs`."""
    path = Path("docs/metrics.md")
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
