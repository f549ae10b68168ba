"""Is the record complete: every stream record once, no event lost before the stream, none accepted twice."""

from usageaudit.integrity.completeness import verify
from usageaudit.integrity.report import Completeness, PartitionReport, Problem

__all__ = ["Completeness", "PartitionReport", "Problem", "verify"]
