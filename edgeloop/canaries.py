"""``python -m edgeloop.canaries`` makes the lab's canary images anew, from `MODEL` beside them."""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import shared.canaries
from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.firmware.signing import sign_image
from services.artifact_builder.measuring import probing_inputs
from shared.boards import ImageBoard, image_boards
from shared.canaries import FACTS, MODEL, Facts, read_data
from shared.events import digest_of
from shared.inference.tflm import tflm_outputs

VERSION: Final = "1.0.0"
ROWS: Final = 8
_SEED: Final = b"edgeloop canary"
"""Of a signing key that is no secret: an image needs a signature, and this one proves nothing."""


def made_for(board: ImageBoard, folder: Path) -> tuple[bytes, str, str]:
    """Return the signed image for a board, the digest of its sources, and what compiled it.

    Args:
        board: with an image.
        folder: an existing one, for what is in between.
    """
    model = read_data(MODEL)
    work = folder / board.name
    work.mkdir()
    compiled = compile_firmware(
        generate(model), board, model_digest=digest_of(model), workdir=work, cache_dir=folder / "zig-cache"
    )
    signed = sign_image(
        compiled.binary, board, version=VERSION, model_digest=digest_of(model), key=_key(folder / "canary.pem")
    )
    return signed.data, _sources_digest(work), compiled.toolchain


def facts_of(sources: dict[str, str], toolchain: str) -> Facts:
    """Return what is to be known of images that were made so."""
    model = read_data(MODEL)
    graph = generate(model)
    inputs = probing_inputs(graph.input_bytes, ROWS)
    return Facts(
        model_digest=digest_of(model),
        toolchain=toolchain,
        sources=sources,
        inputs=tuple(row.tobytes().hex() for row in inputs),
        expected=tuple(row.tobytes().hex() for row in tflm_outputs(model, inputs)),
    )


def main(data: Path) -> None:
    """Write every image, and the facts about them, below `data`."""
    sources = {}
    with tempfile.TemporaryDirectory(prefix="edgeloop-canaries-") as folder:
        for name, board in image_boards().items():
            image, sources[name], toolchain = made_for(board, Path(folder))
            (data / f"{name}.img").write_bytes(image)
    (data / FACTS).write_text(facts_of(sources, toolchain).model_dump_json(indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {', '.join(sources)} below {data}\n")


def _key(file: Path) -> Path:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(_SEED).digest())
    file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


def _sources_digest(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.suffix in {".c", ".h", ".ld"})
    listing = "".join(f"{digest_of(file.read_bytes())} {file.relative_to(folder)}\n" for file in files)
    return digest_of(listing.encode())


if __name__ == "__main__":
    main(Path(shared.canaries.__file__).parent / "data")
