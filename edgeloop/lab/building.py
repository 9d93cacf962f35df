"""Firmware for one test: compiled and signed, with or without a reader for recorded sensor data."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeloop.compiling import explained
from edgeloop.layout import Layout, compiler_cache
from edgeloop.stack.secrets import ensure_signing_key
from services.artifact_builder.codegen import generate
from services.artifact_builder.domain import firmware_version
from services.artifact_builder.firmware.compiling import PLAYBACK, compile_firmware
from services.artifact_builder.firmware.signing import sign_image
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.boards import ImageBoard
from shared.events import digest_of
from shared.events.lab import Numerics

_RELEASE: Final = "1.0.0"


@dataclass(frozen=True, slots=True)
class Built:
    """A signed image, what compiled it, and the RAM that it takes without its stack."""

    image: bytes
    toolchain: str
    ram_bytes: int


def build(
    model: Path,
    tflite: bytes,
    board: ImageBoard,
    *,
    numerics: Numerics,
    toolchain: Toolchain,
    data: Path,
    reader: bool,
) -> Built:
    """Compile a model's firmware, and sign it with the key of `data`, which is made when missing.

    Args:
        model: what errors call it.
        tflite: its bytes.
        board: where it runs.
        numerics: whose bits it gives.
        toolchain: the compiler.
        data: the stack's directory, with the key and the compiler's cache.
        reader: whether the firmware takes recorded sensor data from its second UART.

    Raises:
        UsageError: the model or the board is at fault.
        InfrastructureError: this machine is.
    """
    layout, cache = Layout(data), compiler_cache()
    ensure_signing_key(layout)
    cache.mkdir(parents=True, exist_ok=True)
    digest = digest_of(tflite)
    with tempfile.TemporaryDirectory(prefix="edgeloop-lab-") as work, explained(model):
        compiled = compile_firmware(
            generate(tflite, numerics),
            board,
            model_digest=digest,
            toolchain=toolchain,
            defines=(PLAYBACK,) if reader else (),
            workdir=Path(work),
            cache_dir=cache,
        )
        version = firmware_version(_RELEASE, digest)
        signed = sign_image(compiled.binary, board, version=version, model_digest=digest, key=layout.signing_key)
    return Built(signed.data, compiled.toolchain, compiled.ram_bytes)
