"""The Python back end of the condition language: a typed tree becomes Python expressions with three values.

Values in generated code: None is unknown; a timestamp or a duration is an int of microseconds, a decimal a float; lists
hold no None; objects in lists have an attribute for each field, None where it is missing; a map is a dict or None.
"""

from usageaudit.policy.python.compiling import Values, compile_condition
from usageaudit.policy.python.constants import Constants, execute
from usageaudit.policy.python.explaining import Evaluator, Explainer, Explanation, explain
from usageaudit.policy.python.lowering import TRUE, Lowered, local, lower, nullable

__all__ = [
    "TRUE",
    "Constants",
    "Evaluator",
    "Explainer",
    "Explanation",
    "Lowered",
    "Values",
    "compile_condition",
    "execute",
    "explain",
    "local",
    "lower",
    "nullable",
]
