"""A release index, and the object store that has it."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from shared.artifacts.oci import ArtifactFile, MediaType, manifest_of
from shared.events import Blob, Trigger, digest_of
from shared.events.device import GoldenVector
from shared.releases.manifest import Manifest
from shared.releases.release import Datasets, Firmware, ModelFiles, Quantisation, Reference, Release
from tests.unit.rollout.world import BOARDS


@dataclass
class MemoryBlobs:
    """The object store's reading half over a dict."""

    stored: dict[str, bytes] = field(default_factory=dict)
    reads: int = 0

    async def get(self, digest: str) -> bytes:
        self.reads += 1
        return self.stored[digest]

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        self.stored[digest] = data
        return digest

    def put_release(self, candidate: Release) -> str:
        """Keep a release as the builder does: its index is the config of a manifest, whose digest is the release's."""
        index = ArtifactFile(candidate.to_bytes(), MediaType.RELEASE, "release.json")
        self.put(index.data)
        card = ArtifactFile(b"card", MediaType.MODEL_CARD, "MODEL_CARD.md")
        return self.put(manifest_of(index, [card], {}).to_bytes())


def blob(name: str) -> Blob:
    return Blob.of(name.encode(), media_type="x/y", name=name)


def manifest(**sections: Any) -> Manifest:
    step = {"command": ["python", "step.py"]}
    return Manifest.model_validate(
        {
            "version": 1,
            "name": "Watches",
            "labels": ["rest", "move"],
            "input": {"shape": [10, 2], "minimum": -1, "maximum": 1},
            "data": {"prepare": step, "train": {"path": "train.npz"}, "test": {"path": "test.npz"}},
            "model": {"train": step},
            "boards": list(BOARDS),
            "gates": {"accuracy": 0.5},
            **sections,
        }
    )


def release(number: int = 1, *, production: tuple[Blob, ...] = (), **changes: Any) -> Release:
    """Return release `number`; `changes` are sections of the manifest, or the `reference`."""
    half = Quantisation(scale=0.5, zero_point=0)
    flat = Reference(counts=((100,) * 32,) * 2, class_counts=(50, 50), rows=100)
    return Release(
        project="watches",
        repository="https://forge.example/watches",
        commit=f"{number:040x}",
        trigger=Trigger.PUSH,
        reference=changes.pop("reference", flat),
        manifest=manifest(**changes),
        model=ModelFiles(keras=blob("k"), float32=blob("f"), int8=blob("i"), input=half, output=half),
        datasets=Datasets(train=blob("train"), test=blob("test"), production=production),
        firmware=tuple(_firmware(number, board) for board in BOARDS),
        golden=GoldenVector(input=b"\x01", output=b"\x02"),
    )


def _firmware(number: int, board: str) -> Firmware:
    return Firmware(
        board=board,
        toolchain="none",
        image=blob(f"{number}/{board}.bin"),
        elf=blob(f"{number}/{board}.elf"),
        sources=blob(f"{number}/{board}.zip"),
        image_hash=sha256(f"{number}/{board}".encode()).hexdigest(),
        version=f"{number}.0.0+1",
        flash_bytes=1,
        ram_bytes=1,
        arena_bytes=1,
    )
