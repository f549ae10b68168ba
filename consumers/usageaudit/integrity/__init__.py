"""Is the record complete: every stream record once, no event lost before the stream, none accepted twice."""

from usageaudit.integrity.completeness import Completeness, PartitionReport, Problem, verify

__all__ = ["Completeness", "PartitionReport", "Problem", "verify"]
