"""A whole artifact of the gesture model, packed by the builder's own functions, without training or compiling."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from services.artifact_builder.domain import Artifact, Packed, firmware_version, release_of
from services.artifact_builder.firmware.signing import generate_key, sign_image
from services.artifact_builder.packaging.assemble import packed
from services.artifact_builder.packaging.environment import current_environment
from services.artifact_builder.signers import Signer, signer_for
from shared.artifacts.environment import Environment, Package
from shared.artifacts.oci import ArtifactFile, MediaType
from shared.boards import image_board
from shared.events import Trigger
from shared.events.device import GoldenVector
from shared.releases.datasets import write_dataset
from shared.releases.model_formats import ModelFormat
from shared.releases.release import Conversion, Firmware, Parity, Quantisation, Recipe, Reference
from tests.data.elf import elf_behind
from tests.data.gestures.release import FLOAT32, INT8, manifest, recordings

MANIFEST_FILE = b"version: 1\nname: Gestures\n"
ENVIRONMENT = Environment(
    edgeloop="0.0.0",
    sources="sha256:" + "ab" * 32,
    python="CPython 3.11.7",
    platform="Linux x86_64 glibc 2.36",
    compiler="none",
    packages=(
        Package(name="numpy", version="2.4.0", licence="BSD-3-Clause", files="sha256:" + "cd" * 32),
        Package(name="Odd_Name", version="1", licence="NOASSERTION"),
    ),
)


class Source:
    format, data = ModelFormat.KERAS, b"keras"


class Trained:
    source, float32 = Source(), FLOAT32
    recipe = Recipe(tensorflow="2", keras="3", threads=1, seed=0)
    conversion = Conversion(
        parity=Parity(runtime="keras 3", rows=9, maximum_difference=1e-6, tolerance=1e-4, equal_answers=1),
        notes=("class fast has few rows",),
    )


def tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def new_signer(folder: Path) -> tuple[Signer, Path]:
    """Make an Ed25519 key pair in `folder`; return its signer, and the public half's file."""
    folder.mkdir(parents=True, exist_ok=True)
    generate_key(folder / "signing.pem", folder / "signing.pub.pem")
    return signer_for(folder / "signing.pem"), folder / "signing.pub.pem"


def _firmware(name: str, signer: Signer) -> Packed:
    sources = Artifact(b"zip", MediaType.ZIP, "firmware/model-sources.zip")
    int8 = Artifact(INT8, MediaType.TFLITE, "model/model-int8.tflite")
    version = firmware_version("1.2.3", int8.blob.digest)
    binary = name.encode().ljust(512, b"\xa5")
    signed = sign_image(binary, image_board(name), version=version, model_digest=int8.blob.digest, key=signer)
    image = Artifact(signed.data, MediaType.IMAGE, f"firmware/{name}.img")
    elf = Artifact(elf_behind(signed.data, name), MediaType.ELF, f"firmware/{name}.elf")
    firmware = Firmware(
        board=name,
        toolchain="none",
        image=image.blob,
        elf=elf.blob,
        sources=sources.blob,
        image_hash=signed.image_hash,
        version=version,
        flash_bytes=30_000,
        ram_bytes=9_000,
        arena_bytes=4_000,
        instructions=123_456,
        security_counter=signed.security_counter,
    )
    return Packed(firmware, (image, elf, sources))


def gestures_artifact(signer: Signer, *, environment: Environment | None = ENVIRONMENT) -> tuple[ArtifactFile, ...]:
    """Return every file of an artifact for two boards; its OCI manifest is last."""
    declared = manifest(
        release="1.2.3",
        boards=["cortex-m4", "cortex-m7"],
        licences={"code": "Apache-2.0", "data": "CC-BY-4.0"},
        preprocessing={"files": ["prepare.py"]},
        tests={"command": ["python", "-m", "pytest"]},
    )
    release, files = release_of(
        project="acme-gestures",
        repository="file:///gestures.git",
        commit="c" * 40,
        trigger=Trigger.PUSH,
        manifest=declared,
        model=Trained(),
        int8=Artifact(INT8, MediaType.TFLITE, "model/model-int8.tflite"),
        quantisation=(Quantisation(scale=0.1, zero_point=1), Quantisation(scale=1 / 256, zero_point=-128)),
        datasets={name: write_dataset(recordings(9, 1, "ann")) for name in ("train", "test")},
        production=[write_dataset(recordings(9, 2, "eve"))],
        firmware=[_firmware(board, signer) for board in declared.boards],
        reference=Reference(counts=((9,) * 32,) * 3, class_counts=(3, 3, 3), rows=9),
        golden=GoldenVector(input=b"in", output=b"out"),
    )
    return packed(
        release,
        files,
        snapshot=tar({"edgeloop.yaml": MANIFEST_FILE, "prepare.py": b"pass\n"}),
        manifest_file=MANIFEST_FILE,
        signer=signer,
        environment=environment or current_environment("none"),
    )
