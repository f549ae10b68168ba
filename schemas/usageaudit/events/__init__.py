"""The usage event: its one definition, and what follows from it.

`model` is the definition, `fields` the flat table of its leaves, `structs` the fast reading, `validation` the exact
one, `jsonschema` and `asyncapi` its published form, `hashing` the keyed hash for content.
"""

from usageaudit.events.hashing import keyed_hash
from usageaudit.events.model import (
    EVENT_TYPE,
    Actor,
    Agent,
    Application,
    Capture,
    Content,
    Cost,
    Guardrail,
    Input,
    Model,
    OnBehalfOf,
    Outcome,
    Output,
    Oversight,
    PublisherStamp,
    Purpose,
    Signal,
    Trace,
    Usage,
    UsageEvent,
)

__all__ = [
    "EVENT_TYPE",
    "Actor",
    "Agent",
    "Application",
    "Capture",
    "Content",
    "Cost",
    "Guardrail",
    "Input",
    "Model",
    "OnBehalfOf",
    "Outcome",
    "Output",
    "Oversight",
    "PublisherStamp",
    "Purpose",
    "Signal",
    "Trace",
    "Usage",
    "UsageEvent",
    "keyed_hash",
]
