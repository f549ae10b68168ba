"""The analytics store: the port, its ClickHouse and embedded adapters, the ledger kept in it, and named queries."""
