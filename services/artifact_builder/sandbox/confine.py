"""The last thing that runs inside a sandbox before the program: ``python -I -S confine.py CONFIG COMMAND...``.

Gives up the user, the right to gain any, and the system calls that nothing that trains a model needs; then becomes the
program. Standard library only, and no module of ours: it sees nothing of Edgeloop but itself.

CONFIG is the JSON of `bubblewrap.Confinement`. On `status_fd` it says STARTING before it becomes the program, and what
went wrong if it does not; whoever hears nothing knows that the sandbox never came up.
"""

import base64
import ctypes
import json
import os
import resource
import sys
from typing import Any, Final

STARTING: Final = b"+"
PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_SECCOMP: Final = 22
SECCOMP_MODE_FILTER: Final = 2
BPF_INSTRUCTION_BYTES: Final = 8
_libc = ctypes.CDLL(None, use_errno=True)


class _Filter(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> int:
    """Become the program; return 127 when there is no such program."""
    config = json.loads(sys.argv[1])
    command = sys.argv[2:]
    os.set_inheritable(config["status_fd"], False)
    become(config["user"])
    resource.setrlimit(resource.RLIMIT_NPROC, (config["tasks"], config["tasks"]))
    _prctl(PR_SET_NO_NEW_PRIVS, 1, 0)
    forbid(base64.b64decode(config["seccomp"]))
    os.write(config["status_fd"], STARTING)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the given command is the purpose
    except OSError as error:
        os.write(config["status_fd"], f"{command[0]}: {error.strerror}".encode())
    return 127


def become(user: int | None) -> None:
    """Become a user that owns nothing; from root that gives up every capability as well."""
    if user is None:
        return
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def forbid(instructions: bytes) -> None:
    """Load a seccomp filter, which all that the program starts inherits. Empty: this processor has none."""
    if not instructions:
        return
    program = _Filter(len(instructions) // BPF_INSTRUCTION_BYTES, instructions)
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


def _prctl(option: int, value: int, argument: Any) -> None:  # noqa: ANN401 - a number or a pointer
    if _libc.prctl(option, value, argument, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


if __name__ == "__main__":
    sys.exit(main())
