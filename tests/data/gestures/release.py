"""Test data of the gesture model, and a release around it, without building anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.events import Blob, Trigger
from shared.events.dataset import DatasetRole
from shared.events.device import GoldenVector
from shared.inference.tflm import tflm_outputs
from shared.releases.datasets import Dataset, write_dataset
from shared.releases.histograms import channel_histograms, quantise
from shared.releases.manifest import Manifest
from shared.releases.release import DatasetBlob, Datasets, Firmware, ModelFiles, Quantisation, Reference, Release
from shared.store import BlobMissingError, Blobs

FOLDER = Path(__file__).parent
INT8, FLOAT32, BATCHED = ((FOLDER / f"{name}.tflite").read_bytes() for name in ("int8", "float32", "batched"))


class MemoryBlobs(Blobs):
    """The object store, in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes, *, media_type: str, name: str = "") -> Blob:
        return self.keep(data, media_type, name)

    def keep(self, data: bytes, media_type: str = "application/octet-stream", name: str = "") -> Blob:
        blob = Blob.of(data, media_type=media_type, name=name)
        self.kept[blob.digest] = data
        return blob

    async def get(self, digest: str) -> bytes:
        if digest not in self.kept:
            raise BlobMissingError(digest)
        return self.kept[digest]


def windows(rows: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return windows of three gestures that differ in frequency, and their classes."""
    generator = np.random.default_rng(seed)
    y = np.arange(rows, dtype=np.int64) % 3
    phase = generator.uniform(0, 2 * np.pi, (rows, 1, 3))
    time = np.arange(20)[None, :, None]
    x = np.sin(phase + time * (0.3 + 0.6 * y)[:, None, None]) + generator.normal(0, 0.3, (rows, 20, 3))
    return x.astype(np.float32), y


def recordings(rows: int, seed: int, group: str) -> Dataset:
    x, y = windows(rows, seed)
    return Dataset(x, y, np.array([group] * rows))


def quantisation(tensor: str) -> Quantisation:
    """Return the scale and zero point of the int8 model's ``input`` or ``output``."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(INT8)
    details = interpreter.get_input_details(0) if tensor == "input" else interpreter.get_output_details(0)
    parameters = details["quantization_parameters"]
    return Quantisation(scale=float(parameters["scales"][0]), zero_point=int(parameters["zero_points"][0]))


def manifest(**changes: Any) -> Manifest:
    declared: dict[str, Any] = {
        "version": 1,
        "name": "Gestures",
        "labels": ["slow", "medium", "fast"],
        "input": {"shape": [20, 3], "channels": ["x", "y", "z"], "minimum": -4, "maximum": 4},
        "data": {
            "prepare": {"command": ["python", "prepare.py"]},
            "train": {"path": "train.npz"},
            "test": {"path": "test.npz"},
        },
        "model": {"train": {"command": ["python", "train.py"]}},
        "boards": ["cortex-m4"],
        "gates": {"accuracy": 0.9},
    }
    return Manifest.model_validate(declared | changes)


def gestures_release(
    blobs: MemoryBlobs,
    *,
    train: Dataset | None = None,
    test: Dataset | None = None,
    firmware: tuple[Firmware, ...] | None = None,
    int8: bytes = INT8,
    production: tuple[Dataset, ...] = (),
    more: Mapping[str, Dataset] | None = None,
    **declared: Any,
) -> tuple[str, Release]:
    """Keep a release and everything it names in `blobs`; return its digest and the release."""
    train = recordings(300, 11, "ann") if train is None else train
    test = recordings(90, 12, "eve") if test is None else test
    q = quantise(train.x, quantisation("input"))
    golden = q[:1]
    image = blobs.keep(b"image")
    release = Release(
        project="acme-gestures",
        repository="file:///gestures.git",
        commit="c" * 40,
        trigger=Trigger.PUSH,
        manifest=manifest(**declared),
        model=ModelFiles(
            keras=blobs.keep(b"keras"),
            float32=blobs.keep(FLOAT32),
            int8=blobs.keep(int8),
            input=quantisation("input"),
            output=quantisation("output"),
        ),
        datasets=Datasets(
            train=blobs.keep(write_dataset(train)),
            test=blobs.keep(write_dataset(test)),
            production=tuple(blobs.keep(write_dataset(part)) for part in production),
            more=tuple(
                DatasetBlob(path=path, role=DatasetRole.SYNTHETIC, blob=blobs.keep(write_dataset(part)))
                for path, part in (more or {}).items()
            ),
        ),
        firmware=(
            Firmware(
                board="cortex-m4",
                toolchain="none",
                image=image,
                elf=image,
                sources=image,
                image_hash="00" * 32,
                version="1.0.0+1",
                flash_bytes=30_000,
                ram_bytes=9_000,
                arena_bytes=4_000,
            ),
        )
        if firmware is None
        else firmware,
        reference=Reference(
            counts=tuple(tuple(channel) for channel in channel_histograms(q).tolist()),
            class_counts=(100, 100, 100),
            rows=len(train),
        ),
        golden=GoldenVector(input=golden.tobytes(), output=tflm_outputs(INT8, golden).tobytes()),
    )
    return blobs.keep(release.to_bytes()).digest, release
