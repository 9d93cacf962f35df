"""Builds signed firmware of the gesture model, changed or not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

from edgeloop.layout import compiler_cache
from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.firmware.compiling import compile_firmware
from services.artifact_builder.firmware.signing import generate_key, sign_image
from shared.boards import image_board
from shared.events import digest_of
from shared.releases.release import Firmware
from tests.data.gestures.release import INT8, MemoryBlobs

Change = Callable[[GeneratedModel], GeneratedModel]
VERSION = "1.0.0+7"


@dataclass(frozen=True)
class Workshop:
    """A folder with a signing key."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "Workshop":
        generate_key(folder / "signing.pem", folder / "signing.pub.pem")
        return cls(folder)

    def build(self, blobs: MemoryBlobs, board: str, change: Change | None = None) -> Firmware:
        model = generate(INT8)
        compiled = compile_firmware(
            change(model) if change else model,
            image_board(board),
            model_digest=digest_of(INT8),
            workdir=Path(mkdtemp(dir=self.folder)),
            cache_dir=compiler_cache(),
        )
        signed = sign_image(
            compiled.binary,
            image_board(board),
            version=VERSION,
            model_digest=digest_of(INT8),
            key=self.folder / "signing.pem",
        )
        return Firmware(
            board=board,
            toolchain=compiled.toolchain,
            image=blobs.keep(signed.data),
            elf=blobs.keep(compiled.elf),
            sources=blobs.keep(b"sources"),
            image_hash=signed.image_hash,
            version=VERSION,
            flash_bytes=compiled.flash_bytes,
            ram_bytes=compiled.ram_bytes,
            arena_bytes=model.arena_bytes,
        )


def flip_a_weight(model: GeneratedModel) -> GeneratedModel:
    before, after = model.sources["weights.c"].split("_weights[128] EL_ALIGNED = {", 1)
    first, rest = after.split(",", 1)
    flipped = f"{before}_weights[128] EL_ALIGNED = {{{-int(first)},{rest}"
    return replace(model, sources={**model.sources, "weights.c": flipped})


def read_where_nothing_is(model: GeneratedModel) -> GeneratedModel:
    source = model.sources["model.c"]
    entry = "void model_invoke(void)\n{\n"
    assert entry in source
    crash = "    (void)*(volatile int *)0xA0000000u;\n"
    return replace(model, sources={**model.sources, "model.c": source.replace(entry, entry + crash)})
