"""The Unix socket beside the data: its place, its length limit, and who is at the other end."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "usageaudit.sock"
_LONGEST = 100
"""Bytes that every system takes for the path of a socket: Linux has room for 107, macOS for 103."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""macOS and the BSDs, whose names for this Python does not have."""


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the folder's socket that is short enough, for as long as the block runs.

    A path that is too long leads through a symbolic link in a new, private folder of the temporary files.
    """
    path = str(folder / NAME)
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ua-") as short:
        link = Path(short) / "d"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield str(link / NAME)


def may_ask(connection: socket.socket) -> bool:
    """Tell whether the process that connected runs as the same user as this one, or as root."""
    return peer_user(connection) in (os.geteuid(), 0)


def may_answer(connection: socket.socket) -> bool:
    """Tell whether the process that was connected to runs as the same user, or one of the two as root."""
    return may_ask(connection) or os.geteuid() == 0


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        return int(user)
    _, user = struct.unpack_from("II", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 128))
    return int(user)
