"""Where the language gives something else than CEL by intent: for each such case of the data, what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.cel.cases import Value


class Refusal(Enum):
    """What stands for a value where a condition is refused when it is loaded."""

    REFUSED = "refused"


REFUSED = Refusal.REFUSED
UNKNOWN = None


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that means another thing here, and the cases that show it with what they give here."""

    what: str
    cases: Mapping[str, Value | Refusal]


_EQ, _NE, _FP = "comparisons/eq_literal", "comparisons/ne_literal", "fp_math/fp_math"
_SUM, _RANGE = "timestamps/timestamp_arithmetic", "timestamps/timestamp_range"

DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "a double is finite",
        {
            f"{_EQ}/not_eq_double_nan": UNKNOWN,
            f"{_EQ}/not_eq_int_double_nan": UNKNOWN,
            f"{_NE}/ne_double_nan": UNKNOWN,
            f"{_NE}/not_ne_double_nan": UNKNOWN,
            f"{_NE}/not_ne_int_double_nan": UNKNOWN,
            f"{_FP}/divide_zero": UNKNOWN,
            f"{_FP}/fp_overflow_positive": UNKNOWN,
            f"{_FP}/fp_overflow_negative": UNKNOWN,
        },
    ),
    Deviation(
        "an int and a double are compared exactly",
        {
            "comparisons/lt_literal/not_lt_dyn_int_big_lossy_double": True,
            "comparisons/gt_literal/not_gt_dyn_big_double_int": True,
            "comparisons/lte_literal/lte_dyn_big_double_int": False,
            "comparisons/gte_literal/gte_dyn_int_big_lossy_double": False,
        },
    ),
    Deviation(
        "times have microseconds",
        {
            f"{_SUM}/add_time_to_duration_nanos_negative": False,
            f"{_SUM}/add_time_to_duration_nanos_positive": False,
            f"{_RANGE}/add_duration_nanos_over": 253_402_300_799_999_999,
            f"{_RANGE}/add_duration_nanos_under": -62_135_596_800_000_000,
        },
    ),
    Deviation(
        "a duration is up to 10,000 years long",
        {
            f"{_RANGE}/sub_time_duration_over": 315_537_897_599_000_000,
            f"{_RANGE}/sub_time_duration_under": -315_537_897_599_000_000,
        },
    ),
    Deviation(
        "a list without elements is one of strings",
        {
            "macros/exists/list_empty": REFUSED,
            "macros/all/list_empty": REFUSED,
            "macros/exists_one/list_empty": REFUSED,
        },
    ),
    Deviation(
        "a name is the whole name",
        {
            "namespace/namespace/self_eval_container_lookup": "false",
            "namespace/namespace/self_eval_container_lookup_unchecked": False,
        },
    ),
)

HERE: Mapping[str, Value | Refusal] = {
    name: value for deviation in DEVIATIONS for name, value in deviation.cases.items()
}
"""What a case gives here, where that is not what CEL says."""
