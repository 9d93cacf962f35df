"""A compilation that a trusted key signed, and whose report contradicts it: verification says in what."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import pytest

from services.artifact_builder.firmware.signing import sign_image
from services.artifact_builder.packaging.compiled import packed_compilation
from services.artifact_builder.signers import Signer
from shared.artifacts.compilation import CompileReport
from shared.artifacts.keys import PublicKey
from shared.artifacts.oci import ArtifactFile, MediaType
from shared.artifacts.provenance import CompilationParameters
from shared.artifacts.verify import verify
from shared.boards import image_board
from shared.events import CheckOutcome, digest_of
from shared.events.lab import Numerics
from tests.data.elf import elf_behind, elf_of

MODEL = b"model"
VERSION = "1.2.3+7"


@dataclass(frozen=True)
class Claims:
    """What whoever has the key says; by default the truth."""

    report: CompileReport
    asked: CompilationParameters
    files: tuple[ArtifactFile, ...]


Failures: TypeAlias = Callable[[Claims], dict[str, str]]


@pytest.fixture
def truth(signer: Signer) -> Claims:
    digest = digest_of(MODEL)
    signed = sign_image(
        bytes(range(256)) * 2, image_board("cortex-m4"), version=VERSION, model_digest=digest, key=signer
    )
    report = CompileReport(
        model=digest,
        board="cortex-m4",
        core="cortex-m4",
        numerics=Numerics.TFLM,
        operators={"ADD": 1},
        toolchain="none",
        version=VERSION,
        image_hash=signed.image_hash,
        **dict.fromkeys(("flash_bytes", "model_flash_bytes", "ram_bytes", "arena_bytes", "weights_bytes"), 1),
        **dict.fromkeys(("stack_bytes", "macs"), 1),
        instructions=1,
        counted_on="none",
        inputs=1,
        mismatches=0,
    )
    asked = CompilationParameters(
        model=digest, board="cortex-m4", numerics=Numerics.TFLM, toolchain="zig", release="1.2.3"
    )
    files = (
        ArtifactFile(MODEL, MediaType.TFLITE, "model.tflite"),
        ArtifactFile(b"int main;", MediaType.C_SOURCE, "app/main.c"),
        ArtifactFile(elf_behind(signed.data, "cortex-m4"), MediaType.ELF, "firmware.elf"),
        ArtifactFile(signed.data, MediaType.IMAGE, "firmware.img"),
    )
    return Claims(report, asked, files)


@pytest.fixture
def failures(signer: Signer, trusted: tuple[PublicKey, ...]) -> Failures:
    """Sign what is claimed, verify it, and return the failed checks."""

    def found(claims: Claims) -> dict[str, str]:
        *files, manifest = packed_compilation(claims.report, claims.files, asked=claims.asked, signer=signer)
        blobs = {file.blob.digest: file.data for file in files}
        checks = verify(manifest.data, lambda file: blobs[file.digest], trusted)
        return {check.name: check.observed for check in checks if check.outcome is not CheckOutcome.PASSED}

    return found


def test_the_truth_passes(truth: Claims, failures: Failures) -> None:
    assert failures(truth) == {}


@pytest.mark.parametrize(
    ("lie", "check", "said"),
    [
        ({"model": digest_of(b"other")}, "report", "model: report.json says"),
        ({"model": digest_of(b"other")}, "image", "model_digest of the image is"),
        ({"board": "cortex-m7"}, "image", "cortex-m7: board of the image is cortex-m4"),
        ({"board": "cortex-m7"}, "provenance", "board: the provenance says cortex-m4"),
        ({"version": "1.2.4+7"}, "image", "version of the image is 1.2.3+7"),
        ({"version": "1.2.4+7"}, "provenance", "release: the provenance says 1.2.3"),
        ({"image_hash": "00" * 32}, "image", "image_hash of the image is"),
        ({"numerics": Numerics.LITERT}, "provenance", "numerics: the provenance says tflm"),
    ],
)
def test_a_report_that_says_otherwise_is_refused(
    truth: Claims, failures: Failures, lie: dict[str, str], check: str, said: str
) -> None:
    claims = replace(truth, report=truth.report.model_copy(update=lie))
    assert said in failures(claims)[check]


def test_a_report_of_a_board_that_nobody_knows_is_refused(truth: Claims, failures: Failures) -> None:
    claims = replace(truth, report=truth.report.model_copy(update={"board": "toaster"}))
    assert "no board is called 'toaster'" in failures(claims)["elf"]


@pytest.mark.parametrize(
    ("missing", "check"),
    [("model.tflite", "report"), ("app/main.c", "kinds"), ("firmware.elf", "kinds"), ("firmware.img", "image")],
)
def test_a_compilation_without_a_part_is_refused(truth: Claims, failures: Failures, missing: str, check: str) -> None:
    claims = replace(truth, files=tuple(file for file in truth.files if file.name != missing))
    assert check in failures(claims)


PAYLOAD = bytes(range(256)) * 2
VECTORS = PAYLOAD[:8]


@pytest.mark.parametrize(
    ("elf", "said"),
    [
        (elf_of([(0, VECTORS), (0x10200, PAYLOAD[:100] + b"!" + PAYLOAD[101:])]), "at 0x00010264 it loads 21, the"),
        (elf_of([(0, VECTORS), (0x10200, PAYLOAD[:-4])]), "it loads 508 bytes from 0x00010200 on, the image has 512"),
        (elf_of([(0, VECTORS), (0x10200, PAYLOAD + b"more")]), "beyond the 512 bytes from 0x00010200 on"),
        (elf_of([(0, VECTORS), (0x10200, PAYLOAD), (0x8000, b"bad")]), "at 0x00008000 it loads 3 bytes that are not"),
        (elf_of([(0, VECTORS[:4] + b"evil"), (0x10200, PAYLOAD)]), "at 0x00000000 it loads 8 bytes that are not"),
        (elf_of([(0, VECTORS), (0x10200, PAYLOAD), (0xFFFFFFF0, b"far")]), "beyond the 512 bytes"),
        (elf_of([(0, VECTORS)]), "it loads 0 bytes from 0x00010200 on, the image has 512"),
        (elf_of([(0, VECTORS), (0x10200, PAYLOAD)])[:-1], "ends at byte 636 of 635"),
        (b"\x7fELF", "not an ELF file of 32 bits"),
        (b"", "begins with nothing"),
    ],
)
def test_an_elf_of_another_firmware_is_refused_whoever_signed_it(
    truth: Claims, failures: Failures, elf: bytes, said: str
) -> None:
    files = tuple(replace(file, data=elf) if file.name == "firmware.elf" else file for file in truth.files)
    refused = failures(replace(truth, files=files))
    assert list(refused) == ["elf"]
    assert refused["elf"].startswith("cortex-m4: firmware.elf")
    assert said in refused["elf"]


def test_unsigned_bytes_behind_the_image_are_refused(truth: Claims, failures: Failures) -> None:
    *others, image = truth.files
    claims = replace(truth, files=(*others, replace(image, data=image.data + b"more")))
    assert "size_bytes of the image" in failures(claims)["image"]
