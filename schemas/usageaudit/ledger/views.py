"""Views whose rows are records, events, verdicts, findings or bundles: what SQL reads instead of the tables."""

from __future__ import annotations

import re

from usageaudit.ledger.columns import COLUMNS, EVENT_COLUMNS, LISTS, Column
from usageaudit.ledger.view import Output, View

ACCEPTED = "status = 'accepted'"
"""The filter of everything that counts events: copies and refused records are rows of the ledger, too."""

_LEDGER = {column.name: column for column in COLUMNS}


def _plain(*names: str) -> tuple[Output, ...]:
    """Return columns of the ledger as they are, with its documentation."""
    columns = (_LEDGER[name] for name in names)
    return tuple(Output(c.name, plain_type(c.type), c.doc, personal=c.personal) for c in columns)


def plain_type(name: str) -> str:
    """Return a column's type without what only storage knows: LowCardinality and the codec."""
    return re.sub(r"LowCardinality\((\w+(?:\(\w+\))?)\)", r"\1", name.partition(" CODEC")[0])


def _event_outputs() -> tuple[Output, ...]:
    """Return every field of the event, and beside each list whether the event had it."""
    outputs: list[Output] = []
    bits = {field.name: bit for bit, field in enumerate(LISTS)}
    for column in EVENT_COLUMNS:
        if column.field is not None and column.field.name in bits and _first_of_its_list(column):
            bit = bits[column.field.name]
            doc = f"whether the event had {column.field.name}: a list that is not there is not an empty one"
            outputs.append(Output(f"{column.field.column}_present", "UInt8", doc, f"bitTest(lists_present, {bit})"))
        outputs.extend(_plain(column.name))
    return tuple(outputs)


def _first_of_its_list(column: Column) -> bool:
    """Say whether a column is the only one of its list, or the first of the parallel arrays."""
    return column.member is None or (column.field is not None and column.member is column.field.members[0])


USAGE_EVENTS = View(
    name="usage_events",
    row="an accepted event: one use of a model",
    columns=(
        *_plain("event_source", "event_id", "event_time", "ingest_time"),
        *_event_outputs(),
        *_plain("violated", "violated_version", "violated_severity", "violated_stage", "violated_message"),
        *_plain("violated_evidence", "violated_missing"),
        *_plain("exempted", "exempted_version", "exempted_severity", "exempted_stage", "exempted_message"),
        *_plain("exempted_exception", "indeterminate", "indeterminate_version", "indeterminate_missing"),
        *_plain("bundle", "stream", "topic", "partition", "offset", "epoch", "batch", "record_time"),
        *_plain("content_mode", "payload_bytes", "unknown_fields", "raw"),
    ),
    source=f"FROM ledger\nWHERE {ACCEPTED}",
    notes="Optional fields that the event left out are NULL. Policies that were decided without a finding are not"
    " listed: `violated`, `exempted` and `indeterminate` hold everything that is recorded of judging the event.",
)

STREAM_RECORDS = View(
    name="stream_records",
    row="a stream record of any status",
    columns=_plain(
        *("stream", "topic", "partition", "offset", "status", "ingest_time", "record_time", "epoch", "batch"),
        *("bundle", "content_mode", "payload_bytes", "event_source", "event_id", "event_time"),
    ),
    source="FROM ledger",
    notes="Per partition, records = accepted + duplicate + rejected. Source and id are empty where a rejected record"
    " has none that can be read.",
)

REJECTS = View(
    name="rejects",
    row="a record that was refused",
    columns=_plain(
        *("stream", "topic", "partition", "offset", "ingest_time", "record_time", "error", "error_path"),
        *("payload_bytes", "epoch", "batch"),
    ),
    source="FROM ledger\nWHERE status = 'rejected'",
    notes="The bytes are in the table `rejected_payloads`, by stream, topic, partition and offset, for as long as it"
    " keeps them.",
)

_VIOLATION_ID = (
    "lower(substring(hex(SHA256(concat(event_source, '\\0', event_id, '\\0', policy_id, '\\0', "
    "toString(policy_version)))), 1, 32))"
)

VIOLATIONS = View(
    name="violations",
    row="a policy that an event violated, under an exception or not, or a finding of effect violation",
    columns=(
        Output(
            "violation_id",
            "String",
            "32 hex digits of SHA-256 over source, id, policy and version; of a finding its id",
        ),
        Output("kind", "String", "event, or the kind of the finding"),
        Output("policy_id", "String", "policy, as pack/clause"),
        Output("policy_version", "UInt32", "its version"),
        Output("severity", "String", "info, low, medium, high or critical"),
        Output("stage", "String", "enforce or shadow; a finding without a policy of its own counts as enforce"),
        Output("verdict", "String", "violation, or exempted where an exception was in force"),
        Output("exception_id", "String", "id of that exception; empty where there is none"),
        Output("message", "String", "what happened, in the words of the policy", personal=True),
        Output("evidence", "String", "fields that the policy names as evidence, a JSON object", personal=True),
        Output(
            "missing_fields", "Array(String)", "fields that were unknown where the policy counts unknown as a violation"
        ),
        Output("event_source", "String", "CloudEvents source of the event; empty for a finding of several"),
        Output("event_id", "String", "CloudEvents id of the event; empty for a finding of several"),
        Output("event_time", "DateTime64(6, 'UTC')", "when the use began; of a finding the end of its window"),
        Output("ingest_time", "DateTime64(3, 'UTC')", "when it was recorded"),
        Output("application_name", "String", "application of the event; empty for a finding of several"),
        Output("actor_organization", "Nullable(String)", "organisation of the actor; NULL where it is not known"),
        Output("actor_id", "String", "pseudonymous id of the actor; empty for a finding of several", personal=True),
        Output("model_provider", "String", "provider of the model; empty for a finding of several"),
        Output("model_name", "String", "model that was requested; empty for a finding of several"),
        Output("group_key", "String", "what a finding was made for; empty for an event", personal=True),
        Output("bundle", "String", "hash of the bundle that judged"),
    ),
    source=f"""FROM
(
    SELECT
        {_VIOLATION_ID} AS violation_id, toLowCardinality('event') AS kind, policy_id, policy_version, severity, stage,
        verdict, exception_id, message, evidence, missing_fields, event_source, event_id, event_time, ingest_time,
        application_name, actor_organization, actor_id, model_provider, model_name, '' AS group_key, bundle
    FROM ledger
    ARRAY JOIN
        arrayConcat(violated, exempted) AS policy_id,
        arrayConcat(violated_version, exempted_version) AS policy_version,
        arrayConcat(violated_severity, exempted_severity) AS severity,
        arrayConcat(violated_stage, exempted_stage) AS stage,
        arrayConcat(arrayMap(p -> 'violation', violated), arrayMap(p -> 'exempted', exempted)) AS verdict,
        arrayConcat(arrayMap(p -> '', violated), exempted_exception) AS exception_id,
        arrayConcat(violated_message, exempted_message) AS message,
        arrayConcat(violated_evidence, arrayMap(p -> '{{}}', exempted)) AS evidence,
        arrayConcat(violated_missing, arrayMap(p -> [], exempted)) AS missing_fields
    WHERE {ACCEPTED} AND (notEmpty(violated) OR notEmpty(exempted))
    UNION ALL
    SELECT
        finding_id, kind, policy_id, policy_version, severity,
        toLowCardinality(if(stage = '', 'enforce', toString(stage))), 'violation', toLowCardinality(''), message,
        if(evidence = '', '{{}}', evidence), missing_fields,
        toLowCardinality(if(kind = 'rejudged', event_refs[1].1, '')), if(kind = 'rejudged', event_refs[1].2, ''),
        window_end, created,
        application_name, actor_organization, actor_id, model_provider, model_name, group_key, bundle
    FROM findings
    WHERE effect = 'violation'
)""",
)

INDETERMINATES = View(
    name="indeterminates",
    row="an event and a policy that could not be decided for it",
    columns=(
        Output("policy_id", "String", "policy, as pack/clause"),
        Output("policy_version", "UInt32", "its version"),
        Output("missing_fields", "Array(String)", "fields that would have decided it, sorted"),
        *_plain("event_source", "event_id", "event_time", "ingest_time", "application_name", "actor_organization"),
        *_plain("model_provider", "model_name", "bundle"),
    ),
    source=f"""FROM ledger
ARRAY JOIN
    indeterminate AS policy_id,
    indeterminate_version AS policy_version,
    indeterminate_missing AS missing_fields
WHERE {ACCEPTED} AND notEmpty(indeterminate)""",
)

FINDINGS = View(
    name="findings",
    row="a finding: what belongs to no single record, such as an offset gap",
    columns=(
        Output("finding_id", "String", "32 hex digits, the same for the same finding"),
        Output("kind", "String", "what made it: windowed, offset_gap, rejudged, exception_expired …"),
        Output("effect", "String", "violation, cleared or notice; only violations are listed in `violations`"),
        Output("policy_id", "String", "policy, as pack/clause; empty where none is behind it"),
        Output("policy_version", "UInt32", "its version"),
        Output("bundle", "String", "hash of the bundle it came from"),
        Output("severity", "String", "info, low, medium, high or critical"),
        Output("window_start", "DateTime64(6, 'UTC')", "start of the time it speaks of"),
        Output("window_end", "DateTime64(6, 'UTC')", "end of that time"),
        Output("group_key", "String", "what it was found for: the values of the policy's group_by", personal=True),
        Output("event_refs", "Array(Tuple(source String, id String))", "source and id of the events that it rests on"),
        Output("message", "String", "what was found", personal=True),
        Output("created", "DateTime64(3, 'UTC')", "when it was last appended"),
        Output("stage", "String", "enforce or shadow; empty, where no policy is behind it, counts as enforce"),
        Output("verdict", "String", "of kind rejudged: what the policy says of the event now; otherwise empty"),
        Output("old_bundle", "String", "of kind rejudged: hash of the bundle that said otherwise"),
        Output("missing_fields", "Array(String)", "of kind rejudged: fields that were unknown"),
        Output("evidence", "String", "of kind rejudged: fields that the policy names, a JSON object", personal=True),
        Output("application_name", "String", "of kind rejudged: application of the event"),
        Output("actor_organization", "Nullable(String)", "of kind rejudged: organisation of the actor"),
        Output("actor_id", "String", "of kind rejudged: pseudonymous id of the actor", personal=True),
        Output("model_provider", "String", "of kind rejudged: provider of the model"),
        Output("model_name", "String", "of kind rejudged: model that was requested"),
    ),
    source="FROM findings_log\nORDER BY created DESC\nLIMIT 1 BY finding_id",
    notes="A finding that was appended twice is one row: the last, which is what it says. One of kind windowed is"
    " cleared where an event that came late took it back. Those of kind rejudged say what later policies make"
    " of a recorded event, whose row stays as it is: violation where none is listed by that version, cleared where"
    " nothing is found any more, notice where it can no longer be decided, is exempted, or is again the violation that"
    " is listed already. Later ones replace earlier ones.",
)

BUNDLES = View(
    name="bundles",
    row="a policy bundle that was loaded",
    columns=(
        Output("hash", "String", "hash of the bundle, as `usage_events.bundle` names it"),
        Output("name", "String", "name of the bundle"),
        Output("archive", "String", "its files, enough to judge with it again"),
        Output("loaded_by", "String", "who loaded it first"),
        Output("loaded_at", "DateTime64(3, 'UTC')", "when it was first loaded"),
        Output("git_commit", "String", "commit that its folder was at; empty where it was none"),
    ),
    source="FROM bundles_log\nORDER BY loaded_at\nLIMIT 1 BY hash",
    notes="A bundle that was loaded several times is one row: the first. Each load is a row of `bundles_log`.",
)

POLICY_APPROVALS = View(
    name="policy_approvals",
    row="an approval of a policy, in each bundle that holds it",
    columns=(
        Output("bundle", "String", "hash of the bundle, as `usage_events.bundle` names it"),
        Output("policy_id", "String", "policy that was approved, as pack/clause"),
        Output("policy_version", "UInt32", "its version at the time"),
        Output("digest", "String", "digest of the meaning that was approved, as `usageaudit policy lock` writes it"),
        Output("approved_by", "String", "who approved it", personal=True),
        Output("reason", "String", "why", personal=True),
        Output("approved_at", "DateTime64(6, 'UTC')", "when"),
        Output(
            "current", "UInt8", "1 where the policy means in this bundle what was approved, 0 where it changed since"
        ),
        Output("recorded_at", "DateTime64(3, 'UTC')", "when the bundle was first loaded with it"),
    ),
    source="FROM policy_approvals_log\nORDER BY recorded_at\n"
    "LIMIT 1 BY bundle, policy_id, policy_version, digest, approved_by, reason, approved_at",
    notes="Approvals stand in `approvals.yaml` of a bundle, which keeps the old ones: with `current = 1` those remain"
    " that speak of what the policy means in that bundle.",
)

ROW_VIEWS: tuple[View, ...] = (
    *(USAGE_EVENTS, STREAM_RECORDS, REJECTS, FINDINGS, BUNDLES, VIOLATIONS, INDETERMINATES),
    POLICY_APPROVALS,
)
"""The views of this file, each after those it reads from."""
