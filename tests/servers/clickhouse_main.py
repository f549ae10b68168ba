"""Enter the main function of a ClickHouse that is packaged as a shared library; returns when the server stops.

Usage: `python -I -S clickhouse_main.py server LIBRARY CONFIG_FILE` for the server that the library carries, or
`python -I -S clickhouse_main.py local LIBRARY ARGUMENT...` where it carries `clickhouse-local` alone.
"""

import ctypes
import sys
from collections.abc import Sequence


class LocalResult(ctypes.Structure):
    """`struct local_result_v2` of `chdb.h`; `error_message` is null after success."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("vec", ctypes.c_void_p),
        ("elapsed", ctypes.c_double),
        ("rows_read", ctypes.c_uint64),
        ("bytes_read", ctypes.c_uint64),
        ("error_message", ctypes.c_char_p),
    )


def argument_vector(arguments: Sequence[str]) -> "ctypes.Array[ctypes.c_char_p]":
    """Return `argv` as C expects it, ending in a null pointer."""
    return (ctypes.c_char_p * (len(arguments) + 1))(*(argument.encode() for argument in arguments), None)


def serve(library: str, config_file: str) -> int:
    """Run `clickhouse-server` and return its exit code."""
    arguments = ["clickhouse-server", "--config-file", config_file]
    # The C++ name of mainEntryClickHouseServer(int, char**): the library exports it, no header declares it.
    return int(ctypes.CDLL(library)._Z25mainEntryClickHouseServeriPPc(len(arguments), argument_vector(arguments)))


def serve_local(library: str, options: Sequence[str]) -> int:
    """Run `clickhouse-local` with `options` and return 0 unless it reports an error."""
    query = ctypes.CDLL(library).query_stable_v2
    query.restype = ctypes.POINTER(LocalResult)
    arguments = ["clickhouse", *options]
    result = query(len(arguments), argument_vector(arguments)).contents
    if result.error_message is None:
        return 0
    sys.stderr.write(result.error_message.decode(errors="replace") + "\n")
    return 1


if __name__ == "__main__":
    kind, library_file, *rest = sys.argv[1:]
    sys.exit(serve(library_file, rest[0]) if kind == "server" else serve_local(library_file, rest))
