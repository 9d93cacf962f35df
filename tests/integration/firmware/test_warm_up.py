from pathlib import Path

import numpy as np
import pytest

from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.compilers import warm_up
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import Core, image_board
from tests.tflite_models import Model


def runtime_libraries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("libcompiler_rt.a"))


def dense() -> bytes:
    model = Model()
    graph = model.main
    row, outputs = graph.input((1, 4), 0.1), graph.tensor((1, 2), 0.1)
    weights = graph.constant(np.ones((2, 4), np.int8), 0.1)
    bias = graph.constant(np.zeros(2, np.int32), 0.01)
    graph.operator("FULLY_CONNECTED", [row, weights, bias], [outputs], "FullyConnected")
    graph.outputs.append(outputs)
    return model.pack()


@pytest.mark.slow
def test_firmware_is_linked_with_the_runtime_library_that_was_built_beforehand(tmp_path: Path) -> None:
    cache, work = tmp_path / "cache", tmp_path / "work"
    cache.mkdir()
    work.mkdir()
    warm_up(Core.CORTEX_M4, Toolchain.ZIG, cache)
    [built] = runtime_libraries(cache)
    digest = f"sha256:{'0' * 64}"
    compile_firmware(generate(dense()), image_board("cortex-m4"), model_digest=digest, workdir=work, cache_dir=cache)
    assert runtime_libraries(cache) == [built]


def test_gcc_needs_no_warming_up(tmp_path: Path) -> None:
    warm_up(Core.CORTEX_M4, Toolchain.GCC, tmp_path)
    assert not list(tmp_path.iterdir())
