"""Firmware from models, and the runtime that it is compared with."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.firmware.signing import generate_key, sign_image
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import ImageBoard, image_board
from shared.inference.litert import litert_int8_outputs


@pytest.fixture(scope="session")
def models() -> Path:
    return Path(__file__).parents[2] / "data" / "models"


@pytest.fixture(scope="session")
def mlperf() -> Path:
    folder = Path(__file__).parents[4] / "shared" / "data" / "mlperf_tiny"
    if not folder.is_dir():
        pytest.skip("../shared/data/mlperf_tiny is absent; get the models from github.com/mlcommons/tiny")
    return folder


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    generate_key(folder / "signing.pem", folder / "signing.pub.pem")
    return folder / "signing.pem"


@pytest.fixture(scope="session")
def gcc() -> Toolchain:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed; `apt-get install gcc-arm-none-eabi` gets it")
    return Toolchain.GCC


@pytest.fixture(scope="session")
def qemu() -> None:
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed; `apt-get install qemu-system-arm` gets it")


@pytest.fixture(scope="session")
def make_image(tmp_path_factory: pytest.TempPathFactory, zig_cache: Path, key: Path) -> Callable[..., bytes]:
    """Build a signed image from a .tflite or from generated sources; the same request is built once."""
    built: dict[tuple[object, ...], bytes] = {}

    def make(
        model: bytes | GeneratedModel,
        board: ImageBoard | str = "cortex-m4",
        toolchain: Toolchain = Toolchain.ZIG,
        defines: tuple[str, ...] = (),
    ) -> bytes:
        board = image_board(board) if isinstance(board, str) else board
        source = model if isinstance(model, bytes) else repr(sorted(model.sources.items())).encode()
        digest = hashlib.sha256(source).hexdigest()
        request = (digest, board.name, toolchain, defines)
        if request not in built:
            compiled = compile_firmware(
                generate(model) if isinstance(model, bytes) else model,
                board,
                model_digest=f"sha256:{digest}",
                toolchain=toolchain,
                defines=defines,
                workdir=tmp_path_factory.mktemp("firmware"),
                cache_dir=zig_cache,
            )
            signed = sign_image(compiled.binary, board, version="1.2.3+4", model_digest=f"sha256:{digest}", key=key)
            built[request] = signed.data
        return built[request]

    return make


@pytest.fixture(scope="session")
def litert() -> Callable[[bytes, NDArray[np.int8]], list[bytes]]:
    """LiteRT's default interpreter: one output per row of inputs."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed; pip install 'edgeloop[validators]'")
    return lambda model, rows: [output.tobytes() for output in litert_int8_outputs(model, rows)]


@pytest.fixture(scope="session")
def tflm() -> Callable[[bytes, NDArray[np.int8]], list[bytes]]:
    """TensorFlow Lite for Microcontrollers itself: one output per row of inputs."""
    runtime = pytest.importorskip(
        "tflite_micro.python.tflite_micro.runtime", reason="tflite-micro is published for x86_64 Linux only"
    )

    def run(model: bytes, rows: NDArray[np.int8]) -> list[bytes]:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
        outputs = []
        for row in rows:
            interpreter.set_input(row.reshape(interpreter.get_input_details(0)["shape"]), 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0).tobytes())
        return outputs

    return run
