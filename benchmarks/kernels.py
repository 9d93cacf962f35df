"""How many instructions an inference takes, and how much flash and memory: per model, core, optimisation and compiler.

    python benchmarks/kernels.py                   # every model and core at the default level; all levels on the M4
    python benchmarks/kernels.py --all             # every combination
    python benchmarks/kernels.py --model kws01 --board cortex-m4 [--json]

The whole firmware is compiled as the builder does it and run on an emulated core. Instructions are those of one
`model_invoke`, counted, not estimated; each row's output is compared with that of TensorFlow Lite for Microcontrollers,
bit by bit, and a difference ends the run with exit code 1. Flash stands there three times: the whole firmware with the
command line of MLPerf Tiny and start-up, which the bar judges; of it the model and its kernels, which is what they add
to a firmware of one's own; of that the model's constants. No C library is part of any of them. RAM is .data and .bss,
the arena included; stack is what was used of it. The arena stands beside the head of TFLM's arena, which its own
recording allocator prints.

The C and C++ sources of TFLM, CMSIS-NN and microTVM are in no package registry; no other engine was tried. So the other
side of every DSP core is our portable C, the same files compiled for the same core with EL_PORTABLE.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.compiling import DoesNotFitError, compile_firmware
from services.artifact_builder.firmware.signing import generate_key, sign_image
from services.artifact_builder.firmware.toolchains import Optimisation, Toolchain
from shared.boards import Core, image_board, image_boards
from shared.emulation.on_unicorn import boot_unicorn

ROOT: Final = Path(__file__).resolve().parent.parent
MLPERF: Final = ROOT.parent / "shared" / "data" / "mlperf_tiny" / "models"
MLPERF_FILES: Final = {
    "kws01": MLPERF / "kws_ref_model.tflite",
    "vww01": MLPERF / "vww_96_int8.tflite",
    "ic01": MLPERF / "pretrainedResnet_quant.tflite",
}
OWN: Final = ROOT / "tests" / "data" / "models"
OWN_FILES: Final = {
    name: OWN / f"{name}.tflite" for name in ("cnn_1d", "dense", "dilated_1d", "residual_2d", "separable_1d")
}
PORTABLE: Final = ("EL_PORTABLE",)
DETAILED_BOARD: Final = "cortex-m4"
TFLM_ARENA_BYTES: Final = 1 << 20
EMULATION_TIMEOUT_S: Final = 600.0
BAR_WARM_S: Final = 3.0
BARS: Final[Mapping[str, Mapping[str, int]]] = {
    "kws01": {"instructions": 10_000_000, "arena_bytes": 16_000, "flash_bytes": 31_500},
    "vww01": {"instructions": 30_000_000, "arena_bytes": 64_511},
    "ic01": {"instructions": 40_000_000, "arena_bytes": 49_152},
}
"""On the Cortex-M4 with the default compiler and level."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is compiled."""

    model: str
    board: str
    toolchain: Toolchain = Toolchain.ZIG
    optimisation: Optimisation = Optimisation.SIZE
    portable: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What came of it."""

    case: Case
    instructions: int
    macs: int
    flash_bytes: int
    model_flash_bytes: int
    constants_bytes: int
    ram_bytes: int
    stack_bytes: int
    arena_bytes: int
    tflm_head_bytes: int
    exact: bool

    @property
    def misses(self) -> list[str]:
        """Return the bars that this row should reach and does not."""
        if self.case != Case(self.case.model, DETAILED_BOARD):
            return []
        bars = BARS.get(self.case.model, {})
        return [f"{name} {getattr(self, name):,} > {bar:,}" for name, bar in bars.items() if getattr(self, name) > bar]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Folders that all cases share."""

    cache: Path
    key: Path


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _options()
    models = {name: path for name, path in {**MLPERF_FILES, **OWN_FILES}.items() if path.is_file()}
    missing = [name for name in MLPERF_FILES if name not in models]
    if missing:
        print(f"without {', '.join(missing)}: get the models from github.com/mlcommons/tiny into {MLPERF}",
              file=sys.stderr)  # fmt: skip
    if shutil.which("arm-none-eabi-gcc") is None:
        print("without gcc: `apt-get install gcc-arm-none-eabi` gets it", file=sys.stderr)
    cases = [case for case in _cases(models, every=options.all) if _is_wanted(case, options)]
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder) / "cache", Path(folder) / "signing.pem")
        generate_key(place.key, Path(folder) / "signing.pub.pem")
        # The first build for a core fills the compiler's cache; side by side, several would do the same.
        for board in sorted({case.board for case in cases}):
            _compile(models["cnn_1d"], Case("cnn_1d", board), place)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(_measure, cases, [models[case.model] for case in cases], [place] * len(cases)))
        warm_s = _warm_build_s(models["kws01"], place) if "kws01" in models else None
    rows = [row for row in found if isinstance(row, Row)]
    for reason in sorted({reason for reason in found if isinstance(reason, str)}):
        print(reason, file=sys.stderr)
    _show(rows, warm_s, as_json=options.json)
    wrong = [row.case for row in rows if not row.exact]
    for case in wrong:
        print(f"DIFFERS from TFLM: {case}", file=sys.stderr)
    return 1 if wrong or any(row.misses for row in rows) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*MLPERF_FILES, *OWN_FILES], help="only this one")
    parser.add_argument("--board", action="append", choices=list(image_boards()), help="only this one")
    parser.add_argument("--all", action="store_true", help="every combination; takes long")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _cases(models: Mapping[str, Path], *, every: bool) -> Iterator[Case]:
    compilers = [Toolchain.ZIG, *([Toolchain.GCC] if shutil.which("arm-none-eabi-gcc") else [])]
    for model, board in product(models, image_boards()):
        usual = Case(model, board)
        detailed = every or (board == DETAILED_BOARD and model in MLPERF_FILES)
        for toolchain, optimisation in product(compilers, Optimisation) if detailed else ():
            yield Case(model, board, toolchain, optimisation)
        if not detailed and (model in MLPERF_FILES or board == DETAILED_BOARD):
            yield usual
        if detailed and image_board(board).core is not Core.CORTEX_M0PLUS:
            yield Case(model, board, portable=True)


def _is_wanted(case: Case, options: argparse.Namespace) -> bool:
    return case.model in (options.model or [case.model]) and case.board in (options.board or [case.board])


def _compile(path: Path, case: Case, place: Workplace) -> tuple[Any, Any]:
    """Return the generated model and the linked firmware."""
    data = path.read_bytes()
    model = generate(data)
    with tempfile.TemporaryDirectory() as workdir:
        return model, compile_firmware(
            model,
            image_board(case.board),
            model_digest=_digest(data),
            toolchain=case.toolchain,
            optimisation=case.optimisation,
            defines=PORTABLE if case.portable else (),
            workdir=Path(workdir),
            cache_dir=place.cache,
        )


def _measure(case: Case, path: Path, place: Workplace) -> Row | str:
    """Return what was measured, or why the board cannot hold the model."""
    try:
        model, firmware = _compile(path, case, place)
    except DoesNotFitError as error:
        return f"{case.model}: {error}"
    data = path.read_bytes()
    board = image_board(case.board)
    image = sign_image(firmware.binary, board, version="1.0.0", model_digest=_digest(data), key=place.key)
    tensor = np.random.default_rng(len(data)).integers(-128, 128, model.input_bytes).astype(np.int8)
    emulated = boot_unicorn(image.data, board, count_instructions=True, timeout_s=EMULATION_TIMEOUT_S)
    inference = emulated.infer(tensor.tobytes())
    expected, head_bytes = _reference(data, tensor)
    return Row(
        case=case,
        instructions=inference.instructions or 0,
        macs=model.macs,
        flash_bytes=firmware.flash_bytes,
        model_flash_bytes=firmware.model_flash_bytes,
        constants_bytes=model.weights_bytes,
        ram_bytes=firmware.ram_bytes,
        stack_bytes=emulated.stack_bytes(),
        arena_bytes=model.arena_bytes,
        tflm_head_bytes=head_bytes,
        exact=inference.output == expected,
    )


def _reference(data: bytes, tensor: npt.NDArray[np.int8]) -> tuple[bytes, int]:
    """Return what TFLM makes of a tensor, and the head of its arena: what activations need at once."""
    from tflite_micro.python.tflite_micro import runtime  # noqa: PLC0415 - loads in every worker, not in the parent

    interpreter = runtime.Interpreter.from_bytes(data, arena_size=TFLM_ARENA_BYTES)
    interpreter.set_input(tensor.reshape(interpreter.get_input_details(0)["shape"]), 0)
    interpreter.invoke()
    with _captured_output() as said:
        interpreter.print_allocations()
        said.seek(0)
        found = re.search(r"head (\d+) bytes", said.read().decode())
    if found is None:
        raise RuntimeError("this tflite-micro does not print its allocations; install the version that is locked")
    return interpreter.get_output(0).tobytes(), int(found[1])


@contextmanager
def _captured_output() -> Iterator[Any]:
    """Redirect the process's stderr, which C code writes to, into a file."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _warm_build_s(path: Path, place: Workplace) -> float:
    """Return the seconds of generating and compiling with a filled cache, once the same was done before."""
    case = Case("kws01", DETAILED_BOARD)
    _compile(path, case, place)
    begin = time.perf_counter()
    _compile(path, case, place)
    return time.perf_counter() - begin


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _show(rows: Sequence[Row], warm_s: float | None, *, as_json: bool) -> None:
    if as_json:
        found = [{**asdict(row), "misses": row.misses} for row in rows]
        print(json.dumps({"rows": found, "kws01_warm_build_s": warm_s}, indent=2))
        return
    print("| model | core | compiler | instructions | per MAC | firmware, flash B | of it model and kernels "
          "| of that constants | RAM B | stack B | arena B | TFLM's head | bits |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        case = row.case
        compiler = f"{case.toolchain} {case.optimisation}{', portable C' if case.portable else ''}"
        numbers = (row.flash_bytes, row.model_flash_bytes, row.constants_bytes, row.ram_bytes, row.stack_bytes,
                   row.arena_bytes, row.tflm_head_bytes)  # fmt: skip
        cells = [case.model, case.board, compiler, f"{row.instructions:,}", f"{row.instructions / row.macs:.2f}"]
        print(f"| {' | '.join([*cells, *(f'{n:,}' for n in numbers), 'TFLM' if row.exact else 'DIFFERENT'])} |")
    if warm_s is not None:
        print(f"\nGeneration and compilation of kws01, warm: {warm_s:.2f} s (bar {BAR_WARM_S:g} s)")
    for row in rows:
        for miss in row.misses:
            print(f"\n{row.case.model} misses a bar: {miss}")


if __name__ == "__main__":
    sys.exit(main())
