"""Is the record complete, and right: every stream record once, no event lost, the same verdicts when judged again."""

from usageaudit.integrity.completeness import verify
from usageaudit.integrity.report import Completeness, PartitionReport, Problem
from usageaudit.integrity.verdicts import Rejudged, check_verdicts

__all__ = ["Completeness", "PartitionReport", "Problem", "Rejudged", "check_verdicts", "verify"]
