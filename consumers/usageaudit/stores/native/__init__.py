"""ClickHouse's Native form: rows are encoded into byte columns as they come, and go to the engine as one block."""

from usageaudit.stores.native.block import NativeBlock

__all__ = ["NativeBlock"]
