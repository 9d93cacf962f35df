"""The smoke test: it boots, says which model it carries, and answers the golden vector with the promised bits.

Positive cases only, in seconds. Firmware that reads sensor data must see it, too.
"""

from contextlib import closing
from dataclasses import dataclass

from shared.emulation import EmulatedBoard, EmulationError
from shared.emulation.dut import Dut
from shared.emulation.frames import frames
from shared.events import Check
from shared.procedures import Effort, Report, Rig, Workload
from shared.releases.gates import outcome


@dataclass(frozen=True, slots=True)
class SmokeRun:
    """What the board said.

    Attributes:
        instructions: None when they were not counted.
        sensed: The output for the golden vector when it came from the second UART; None: there is no reader for it.
    """

    emulator: str
    model_digest: str
    output: bytes
    instructions: int | None
    sensed: bytes | None = None


def run(workload: Workload, rig: Rig, _effort: Effort) -> Report:
    """Boot, ask for one inference, and let the sensor be read."""
    golden = workload.inputs[0].tobytes()
    with closing(rig.boot_counting()) as board:
        found = observe(board, golden, sensed=_sensed(board, golden))
    name = workload.board.name
    checks = judge(name, found, model_digest=workload.model_digest, output=workload.expected[0].tobytes())
    return Report("smoke", name, found.emulator, checks, {"instructions": found.instructions})


def observe(board: EmulatedBoard, golden_input: bytes, *, sensed: bytes | None = None) -> SmokeRun:
    """Ask a booted board.

    Raises:
        EmulationError: it faulted, hung, or takes inputs of another size.
    """
    if board.info.input_bytes != len(golden_input):
        raise EmulationError(
            f"the firmware's model takes {board.info.input_bytes} bytes, the release's {len(golden_input)}"
        )
    answer = board.infer(golden_input)
    return SmokeRun(board.emulator, board.info.model_digest, answer.output, answer.instructions, sensed)


def judge(board: str, run: SmokeRun, *, model_digest: str, output: bytes) -> tuple[Check, ...]:
    """Hold what the board said against what it should say."""
    same_model, same_output = run.model_digest == model_digest, run.output == output
    checks = [
        Check(
            name=f"model-{board}",
            outcome=outcome(same_model),
            observed=run.model_digest,
            allowed=f"{model_digest} (the release's int8 model)",
            detail="" if same_model else "the image was built from another model: build the commit again",
        ),
        Check(
            name=f"golden-{board}",
            outcome=outcome(same_output),
            observed=run.output.hex(),
            allowed=f"{output.hex()}, bit by bit",
            detail=""
            if same_output
            else "the image does not compute the release's model: build it again, then look at its kernels",
        ),
    ]
    if run.sensed is not None:
        alive = run.sensed == output
        checks.append(
            Check(
                name=f"sensors-{board}",
                outcome=outcome(alive),
                observed=run.sensed.hex() or "no window arrived",
                allowed=f"{output.hex()}, from a window that came over the second UART",
                detail="" if alive else "the firmware does not read what its sensor says",
            )
        )
    return tuple(checks)


def _sensed(board: Dut, golden: bytes) -> bytes | None:
    if not board.reads_traces():
        return None
    board.control.feed(b"".join(frames(golden)))
    inference = board.sense(len(golden)).inference
    board.control.reset()
    return inference.output if inference else b""
