"""How a command fails: one sentence for the user, and an exit code for the script around it."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says. Documented, so never renumbered."""

    OK = 0
    GATE_FAILED = 1
    """The command did its work, and the work did not pass."""
    USAGE = 2
    """The arguments, a file or a name is wrong: running it again changes nothing."""
    INFRASTRUCTURE = 3
    """Something the command needs is missing, down or full: it may pass another time."""


class EdgeloopError(Exception):
    """A failure that is explained to the user without a traceback."""

    exit_code = ExitCode.INFRASTRUCTURE

    def __init__(self, message: str, *, next_step: str = "") -> None:
        """Args: message: where, what was found, what is allowed. next_step: a command to run or a thing to change."""
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class GateFailedError(EdgeloopError):
    """The work failed a gate."""

    exit_code = ExitCode.GATE_FAILED


class UsageError(EdgeloopError):
    """Bad input."""

    exit_code = ExitCode.USAGE


class InfrastructureError(EdgeloopError):
    """The machine, the bus or a service."""

    exit_code = ExitCode.INFRASTRUCTURE
