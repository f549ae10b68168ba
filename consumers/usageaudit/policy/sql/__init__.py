"""The SQL back end of the condition language: a typed tree becomes an expression over the columns of the ledger."""

from usageaudit.policy.sql.columns import Columns, Stored, ledger_columns
from usageaudit.policy.sql.lowering import lower

__all__ = ["Columns", "Stored", "ledger_columns", "lower"]
