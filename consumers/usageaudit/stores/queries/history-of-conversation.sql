-- Every use of a model within one conversation, in order.
-- conversation String: id of the conversation
-- rows UInt32 = 1000: how many rows at most
SELECT
    event_time,
    event_source,
    event_id,
    application_name,
    actor_id,
    agent_name,
    operation,
    model_name,
    tools,
    usage_input_tokens,
    usage_output_tokens,
    outcome_status,
    violated,
    indeterminate
FROM usage_events
WHERE conversation_id = {conversation:String}
ORDER BY event_time, event_source, event_id
LIMIT {rows:UInt32}
