"""Become another program that the kernel ends when our parent dies, however it dies.

``python launcher.py PARENT_PID PROGRAM ARGUMENT…``. A program of its own and not a `preexec_fn`: code between fork and
exec in a process with threads can deadlock. Elsewhere than on Linux it only runs the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Replace this process."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main()
