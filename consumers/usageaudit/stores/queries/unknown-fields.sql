-- Fields that publishers send and the definition does not know, with the sources that send them.
-- since Date = 1970-01-01: first day that counts, UTC
-- until Date = 2106-01-01: first day that no longer counts, UTC
-- rows UInt32 = 200: how many rows at most
WITH
    [
        'actor', 'actor.id', 'actor.jurisdiction', 'actor.on_behalf_of', 'actor.on_behalf_of.jurisdiction',
        'actor.on_behalf_of.organization', 'actor.on_behalf_of.sector', 'actor.organization', 'actor.sector',
        'actor.type', 'agent', 'agent.id', 'agent.name', 'application', 'application.environment', 'application.name',
        'application.team', 'application.version', 'capture', 'content', 'content.prompt_chars', 'content.prompt_hmac',
        'content.response_chars', 'content.response_hmac', 'content.signals', 'content.signals.category',
        'content.signals.detector', 'content.signals.score', 'content.signals.version', 'conversation_id', 'cost',
        'cost.amount', 'cost.currency', 'cost.source', 'input', 'input.capture', 'input.capture.device',
        'input.capture.place', 'input.capture.setting', 'input.capture.timing', 'input.data_classification',
        'input.modalities', 'labels', 'model', 'model.deployment', 'model.name', 'model.provider', 'model.region',
        'model.response_name', 'operation', 'outcome', 'outcome.error_type', 'outcome.finish_reasons',
        'outcome.guardrails', 'outcome.guardrails.action', 'outcome.guardrails.categories', 'outcome.guardrails.name',
        'outcome.latency_ms', 'outcome.status', 'output', 'output.inferred_attributes', 'output.modalities',
        'oversight', 'oversight.consent', 'oversight.human_review', 'oversight.reviewer', 'publisher',
        'publisher.instance', 'publisher.sequence', 'publisher.version', 'purpose', 'purpose.reference',
        'purpose.use_case', 'tools', 'trace', 'trace.span_id', 'trace.trace_id', 'usage', 'usage.audio_seconds',
        'usage.cached_input_tokens', 'usage.images', 'usage.input_tokens', 'usage.output_tokens',
        'usage.reasoning_tokens'
    ] AS known,
    (json, path) -> arrayMap(key -> (concat(path, key), JSONExtractRaw(json, key)), JSONExtractKeys(json)) AS members,
    value -> if(startsWith(value, '['), JSONExtractArrayRaw(value), [value]) AS objects,
    found -> arrayFlatten(arrayMap(
        f -> arrayFlatten(arrayMap(one -> members(one, concat(f.1, '.')), objects(f.2))),
        arrayFilter(f -> has(known, f.1) AND f.1 != 'labels', found)
    )) AS below
SELECT
    path,
    count() AS events,
    arraySort(groupUniqArray(event_source)) AS sources,
    max(event_time) AS last_sent
FROM
(
    SELECT
        event_source,
        event_time,
        members(if(content_mode = 'binary', raw, JSONExtractRaw(raw, 'data')), '') AS first,
        below(first) AS second,
        below(second) AS third,
        arrayMap(f -> f.1, arrayConcat(first, second, third)) AS sent,
        arrayDistinct(arrayFilter(p -> NOT has(known, p), sent)) AS paths
    FROM usage_events
    WHERE unknown_fields > 0 AND event_time >= {since:Date} AND event_time < {until:Date}
)
ARRAY JOIN paths AS path
GROUP BY path
ORDER BY events DESC, path
LIMIT {rows:UInt32}
