"""What lies in the store: the ledger's columns, and the migrations that create and change its tables."""
