"""How long an acceptance run of 1,000 keyword-spotting inputs takes on emulated boards, and whether a byte is lost.

    python benchmarks/lab_runs.py [--inputs 1000] [--json]

kws01 is compiled as the builder does it. Its 200 recorded inputs are run over and over until there are 1,000, loaded in
hexadecimal digits (MLPerf Tiny's own commands) and in binary (Edgeloop's `db bin`), on one emulated Cortex-M4 and on
eight at once. Every output vector is compared with TFLM's; a difference ends the run with exit code 1. Seconds are
measured on this machine and say nothing of a board's.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeloop.bench.running import run_all
from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.firmware.signing import generate_key, sign_image
from shared.boards import image_board
from shared.emulation.emulators import Emulator
from shared.emulation.on_unicorn import boot_unicorn
from shared.events import digest_of
from shared.inference.tflm import tflm_outputs

ROOT: Final = Path(__file__).resolve().parent.parent
MLPERF: Final = ROOT.parent / "shared" / "data" / "mlperf_tiny"
BOARD: Final = image_board("cortex-m4")
BAR_HEX_S: Final = 90.0
BAR_BINARY_S: Final = 30.0
HEX_BYTES: Final = (80 - len("db %")) // 2

Outputs = list[bytes]


def firmware(model: bytes) -> bytes:
    """Return kws01's signed image."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for folder in ("sources", "cache"):
            (work / folder).mkdir()
        digest = digest_of(model)
        compiled = compile_firmware(
            generate(model), BOARD, model_digest=digest, workdir=work / "sources", cache_dir=work / "cache"
        )
        key = work / "key.pem"
        generate_key(key, work / "key.pub.pem")
        return sign_image(compiled.binary, BOARD, version="1.0.0", model_digest=digest, key=key).data


def in_hexadecimal(image: bytes, tensors: npt.NDArray[np.int8]) -> Outputs:
    """Run on one board, loading as the reference's runner does: 80 characters a command."""
    outputs = []
    with closing(boot_unicorn(image, BOARD)) as board:
        for tensor in tensors:
            raw = tensor.tobytes()
            board.ask(f"db load {len(raw)}%")
            for at in range(0, len(raw), HEX_BYTES):
                board.ask(f"db {raw[at : at + HEX_BYTES].hex()}%")
            board.ask("infer 1%")
            [line] = board.ask("output%")
            outputs.append(bytes.fromhex(line.removeprefix("m-output-[").removesuffix("]")))
    return outputs


@dataclass(frozen=True, slots=True)
class Row:
    """One side of the comparison."""

    side: str
    inputs: int
    seconds: float
    bar_s: float | None
    differ: int

    @property
    def missed(self) -> bool:
        """Whether a vector differs, or the bar is missed."""
        return bool(self.differ) or (self.bar_s is not None and self.seconds > self.bar_s)

    def __str__(self) -> str:
        """Return a line of the table."""
        bar = "" if self.bar_s is None else f"  (bar {self.bar_s:g} s)"
        return f"{self.side:30} {self.inputs:6} inputs {self.seconds:7} s  {self.differ} differ{bar}"


def timed(name: str, bar_s: float | None, side: Callable[[], Outputs], expected: Outputs) -> Row:
    """Run a side, and compare what it gave."""
    begin = time.perf_counter()
    outputs = side()
    seconds = time.perf_counter() - begin
    differ = sum(left != right for left, right in zip(outputs, expected, strict=True))
    return Row(name, len(outputs), round(seconds, 1), bar_s, differ)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not MLPERF.is_dir():
        print(f"needs MLPerf Tiny's models and inputs in {MLPERF}", file=sys.stderr)
        return 0
    model = (MLPERF / "models" / "kws_ref_model.tflite").read_bytes()
    recorded = np.stack(
        [np.frombuffer(file.read_bytes(), np.int8) for file in sorted((MLPERF / "kws01").glob("*.bin"))]
    )
    tensors = np.resize(recorded, (arguments.inputs, recorded.shape[1]))
    expected = [row.tobytes() for row in np.resize(tflm_outputs(model, recorded), (arguments.inputs, 12))]
    image = firmware(model)
    sides: tuple[tuple[str, float | None, Callable[[], Outputs]], ...] = (
        ("one board, hexadecimal", BAR_HEX_S, lambda: in_hexadecimal(image, tensors)),
        ("one board, binary", BAR_BINARY_S, lambda: run_all(image, BOARD, Emulator.UNICORN, tensors, boards=1)),
        ("two boards at once, binary", None, lambda: run_all(image, BOARD, Emulator.UNICORN, tensors, boards=2)),
        ("eight boards at once, binary", None, lambda: run_all(image, BOARD, Emulator.UNICORN, tensors, boards=8)),
    )
    rows = [timed(name, bar, side, expected) for name, bar, side in sides]
    print(json.dumps([asdict(row) for row in rows]) if arguments.json else "\n".join(map(str, rows)))
    return int(any(row.missed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
