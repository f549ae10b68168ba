"""Run a command that the kernel kills when the process that asked for it is gone.

Usage: `python -I -S child.py PARENT_PID COMMAND ARGUMENT...`

A test run that is killed can't stop its servers. On Linux the parent-death signal does it, and it survives `execve`; it
is set here rather than between fork and exec, where Python code may dead-lock in a parent that has threads. Elsewhere
there is no such signal, and a killed run leaves its servers behind.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`, a program with its arguments."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the signal was set
        raise SystemExit(f"process {parent}, which asked for {command[0]}, is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
