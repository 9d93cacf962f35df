"""A board behind a port as procedures use it: every answer is held against what was asked, every trouble has a type."""

from typing import Final, NoReturn

from shared.emulation import BoardControl, FirmwareInfo, Inference
from shared.emulation.dut import Sensed
from shared.lab.verdict import AttemptOutcome
from shared.mlperf_tiny import DutError, Line, Trouble
from shared.mlperf_tiny.session import Loading, Session
from shared.places.rig import RigError
from shared.procedures import ProcedureError

_GREETING: Final = b"m-init-done"
_OUTCOMES: Final = {
    Trouble.UNREACHABLE: AttemptOutcome.DISAPPEARED,
    Trouble.LOST: AttemptOutcome.DISAPPEARED,
    Trouble.SILENCE: AttemptOutcome.HANG,
    Trouble.READY_MISSING: AttemptOutcome.HANG,
    # The board answers well: it is the wrong firmware.
    Trouble.WRONG_MODEL: AttemptOutcome.FAILED,
}
"""What is not here came as bytes that no board in order sends."""


class GreetingCounter:
    """Counts the greetings that a board says after it has booted."""

    def __init__(self) -> None:
        self.greetings = 0
        self.met = False
        self._tail = b""

    def hear(self, data: bytes) -> None:
        """Take what came, in pieces of any size."""
        said = self._tail + data
        self.greetings += said.count(_GREETING)
        self._tail = said[-len(_GREETING) + 1 :]

    def meet(self) -> None:
        """From the first answer on it does not boot by itself any more: forget the greetings up to there."""
        if not self.met:
            self.greetings, self.met = 0, True

    def __str__(self) -> str:
        """Return the beginning of a sentence about boots that nobody asked for; nothing where there were none."""
        return f"it booted {self.greetings} times by itself; " if self.loops else ""

    @property
    def loops(self) -> bool:
        """Whether the board has booted without being told to."""
        return self.greetings > (0 if self.met else 1)


def outcome_of(error: DutError, greetings: GreetingCounter | None = None) -> AttemptOutcome:
    """Return what a trouble with a board is to the lab."""
    found = _OUTCOMES.get(error.diagnosis.trouble, AttemptOutcome.GARBAGE)
    if found is not AttemptOutcome.DISAPPEARED and greetings is not None and greetings.loops:
        return AttemptOutcome.RESET_LOOP
    return found


class DutAtPort:
    """A `shared.emulation.dut.Dut` over a conversation that checks each answer."""

    def __init__(self, line: Line, greetings: GreetingCounter, *, model: str | None = None) -> None:
        """Find out who is there.

        Args:
            line: to the board.
            greetings: of what comes over the line.
            model: digest of the model that is to be there already, where nothing can be flashed.

        Raises:
            DutError: nobody, or nobody who speaks the protocol.
            RigError: it is firmware that cannot be judged, or carries another model.
        """
        self._session: Final = Session(line)
        identity = self._session.greet()
        greetings.meet()
        self.emulator = f"{identity.vendor} at {line.name}"
        self.control: BoardControl = _NoControl(line.name)
        if identity.info is None:
            raise RigError(
                AttemptOutcome.LAB if model else AttemptOutcome.GARBAGE,
                f"{line.name}: the firmware there answers no info%, so that its outputs cannot be compared bit by bit. "
                "Next: flash an image that Edgeloop has built",
            )
        self.info: FirmwareInfo = identity.info
        if model and model != self.info.model_digest:
            raise RigError(
                AttemptOutcome.LAB,
                f"{line.name}: the place has no way to flash this board, and found the model {self.info.model_digest} "
                f"there; the work is for {model}. Next: give it `flash` in gateway.yaml, or flash it by hand",
            )

    def infer(self, tensor: bytes) -> Inference:
        """Load, read back, run, and fetch the output's bytes."""
        self._session.load(tensor, Loading.BINARY)
        self._session.infer()
        return Inference(self._session.output(self.info.output_bytes), instructions=None)

    def stack_bytes(self) -> int:
        """Return the stack's high-water mark since boot."""
        return self._session.stack_bytes()

    def reads_traces(self) -> bool:
        """No: nothing hangs at the second UART."""
        return False

    def sense(self, _hop_bytes: int) -> Sensed:
        """See `reads_traces`."""
        _not_wired(self._session.line.name, "second UART")

    def close(self) -> None:
        """The port is its rig's."""


class _NoControl:
    """What a port alone gives no hold of."""

    def __init__(self, where: str) -> None:
        self._where = where

    def reset(self) -> None:
        _not_wired(self._where, "reset line")

    def hang(self) -> None:
        _not_wired(self._where, "debugger")

    def resume(self) -> None:
        _not_wired(self._where, "debugger")

    def power_cut(self) -> None:
        _not_wired(self._where, "supply switch")

    def power_on(self) -> None:
        _not_wired(self._where, "supply switch")

    def feed(self, _data: bytes) -> None:
        _not_wired(self._where, "second UART")

    def flash(self) -> bytes:
        _not_wired(self._where, "debugger")


def _not_wired(where: str, what: str) -> NoReturn:
    raise ProcedureError(f"{where}: it takes a {what}, and the lab has only the port. Next: use an emulated one")
