"""The benchmark on a board that is there, behind a serial port, whoever wrote its firmware."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import closing

import numpy as np

from edgeloop.bench import energy
from edgeloop.bench.mlperf_tiny import Benchmark, Case, Json, judged
from edgeloop.errors import InfrastructureError, UsageError
from services.artifact_builder.codegen.graph import Tensor
from shared.boards import Board
from shared.boards.modelling import Figure
from shared.energy.phases import EnergyResult
from shared.events import digest_of
from shared.events.lab import Origin
from shared.mlperf_tiny import DutError
from shared.mlperf_tiny.serial_line import SerialLine
from shared.mlperf_tiny.session import Identity, Loading, Session
from shared.mlperf_tiny.windows import Performance, measure

_RESULT_STEP = 1e-3
"""`results%` has three decimals."""


def run_at_port(
    case: Case, board: Board, *, port: str, baud: int, loading: Loading, window_s: float, meter: str | None = None
) -> Benchmark:
    """Run every input on the board at `port`, then five windows of `window_s` seconds on the first.

    The firmware is what the board has; nothing is flashed. Firmware without Edgeloop's ``output%`` gives its results
    with three decimals, from which the int8 outputs are restored where the model's scale allows.

    Args:
        case: what to run.
        board: what the figures are called after.
        port: pyserial URL.
        baud: of a real port.
        loading: in hexadecimal digits, which any firmware takes, or in binary.
        window_s: least length of a window.
        meter: instrument that measures one window more; None: energy is modelled.

    Raises:
        UsageError: the firmware carries another model, or cannot be compared bit by bit.
        InfrastructureError: the board or the way to it is at fault; the message names what.
    """
    used: EnergyResult | None = None
    with contextlib.ExitStack() as stack:
        instrument = stack.enter_context(energy.supplying(meter)) if meter else None
        stack.enter_context(_named(port))
        session = Session(stack.enter_context(closing(SerialLine(port, baud=baud))))
        identity = session.greet()
        _require_model(identity, case, port)
        outputs = [_answer(session, identity, case, row.tobytes(), loading) for row in case.recordings.tensors]
        performance = measure(session, case.recordings.tensors[0].tobytes(), window_s=window_s)
        if instrument is not None:
            used = energy.measure(instrument, session, inferences=performance.windows[0].inferences, window_s=window_s)
    ran: Mapping[str, Json] = {
        "board_class": "physical",
        "ran_on": f"{identity.vendor} at {port}",
        "toolchain": None,
        "instructions": None,
    }
    latency = _latency(performance)
    if used is None:
        return judged(case, board, outputs, latency, ran)
    measured = {**ran, "energy_net_uj": used.net_uj, "energy_phases": energy.phases_of(used)}
    return judged(case, board, outputs, latency, measured, energy=energy.figure_of(used))


@contextlib.contextmanager
def _named(port: str) -> Iterator[None]:
    """Name the port where the board, or the way to it, is at fault."""
    try:
        yield
    except DutError as error:
        raise InfrastructureError(f"{port}: {error}") from error


def _require_model(identity: Identity, case: Case, port: str) -> None:
    digest = digest_of(case.model)
    if identity.info is not None and identity.info.model_digest != digest:
        raise UsageError(
            f"{port}: its firmware carries the model {identity.info.model_digest}, --model is {digest}",
            next_step="flash the firmware of this model: `edgeloop compile` makes it",
        )


def _answer(session: Session, identity: Identity, case: Case, tensor: bytes, loading: Loading) -> bytes:
    session.load(tensor, loading)
    run = session.infer()
    if identity.info is not None:
        return session.output(identity.info.output_bytes)
    return restored(run.results, case.output)


def restored(results: tuple[float, ...], output: Tensor) -> bytes:
    """Return the int8 output whose dequantised values, with three decimals, are `results`.

    Raises:
        UsageError: several int8 values have the same three decimals, or there are more or fewer results.
    """
    scale = output.scales[0] if len(output.scales) == 1 else 0.0
    if scale <= _RESULT_STEP:
        raise UsageError(
            "the firmware gives results with three decimals, from which this model's int8 outputs cannot be restored",
            next_step="give it an `output%` command that prints the output's bytes, as Edgeloop's firmware has",
        )
    if len(results) != output.size:
        raise UsageError(f"the firmware gives {len(results)} results, the model {output.size}")
    values = np.rint(np.array(results) / scale) + output.zero_points[0]
    restored_bytes: bytes = np.clip(values, -128, 127).astype(np.int8).tobytes()
    return restored_bytes


def _latency(performance: Performance) -> Figure:
    """Return the median. It is measured only where the board's second is one."""
    windows = performance.windows
    basis = (
        f"median of {len(windows)} windows of {windows[0].inferences} inferences each by the board's own timer: "
        f"{', '.join(f'{window.latency_ms:.6g}' for window in windows)} ms"
    )
    if performance.clocks_agree:
        return Figure(performance.latency_ms, Origin.MEASURED, basis)
    slowest = max(windows, key=lambda window: abs(window.host_s - window.board_s))
    return Figure(
        performance.latency_ms,
        Origin.MODELLED,
        f"{basis}; but a window of {slowest.board_s:.3g} s by that timer took {slowest.host_s:.3g} s here: the clocks "
        "disagree, as those of an emulator or of a timer that is wrongly set",
    )
