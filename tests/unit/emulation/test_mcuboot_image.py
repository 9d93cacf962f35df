"""Signed images, written by imgtool and read back."""

import hashlib
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.firmware.signing import SignedImage, SigningError, generate_key, sign_image
from shared.boards import image_board
from shared.emulation.mcuboot_image import ImageFormatError, TlvType, read_image

_MODEL = "sha256:" + "5a" * 32
_FIRMWARE = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "signing.pem", folder / "signing.pub.pem"
    generate_key(private, public)
    return private, public


@pytest.fixture(scope="module")
def signed(keys: tuple[Path, Path]) -> SignedImage:
    return _sign(keys[0])


def _sign(key: Path, version: str = "1.2.3+4000000000") -> SignedImage:
    return sign_image(_FIRMWARE, image_board("cortex-m4"), version=version, model_digest=_MODEL, key=key)


def test_an_image_says_what_was_put_in(signed: SignedImage) -> None:
    image = read_image(signed.data)
    assert image.version == "1.2.3+4000000000"
    assert image.header_bytes == 0x200
    assert image.payload == _FIRMWARE
    assert (image.model_digest, image.board) == (_MODEL, "cortex-m4")
    assert image.image_hash == signed.image_hash
    assert image.size_bytes == len(signed.data)


def test_vendor_tlvs_are_covered_by_the_hash_and_the_signature(signed: SignedImage, keys: tuple[Path, Path]) -> None:
    image = read_image(signed.data)
    protected = struct.unpack_from("<H", signed.data, 10)[0]
    hashed = signed.data[: 0x200 + len(_FIRMWARE) + protected]
    assert bytes.fromhex("5a" * 32) in hashed
    assert b"cortex-m4" in hashed
    assert hashlib.sha256(hashed).hexdigest() == image.image_hash
    public = load_pem_public_key(keys[1].read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    assert image.signature is not None
    public.verify(image.signature, bytes.fromhex(image.image_hash))
    assert TlvType.KEY_HASH in image.tlvs


def test_the_same_firmware_gives_the_same_image(signed: SignedImage, keys: tuple[Path, Path]) -> None:
    assert _sign(keys[0]) == signed


def test_signing_says_nothing_on_standard_output(keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _sign(keys[0])
    assert capsys.readouterr() == ("", "")


def test_the_private_key_is_its_owners_alone(keys: tuple[Path, Path]) -> None:
    assert keys[0].stat().st_mode & 0o777 == 0o600


def test_what_follows_an_image_in_flash_is_ignored(signed: SignedImage) -> None:
    assert read_image(signed.data + b"\xff" * 1000) == read_image(signed.data)


@given(st.data())
def test_a_changed_bit_in_what_is_hashed_is_noticed(signed: SignedImage, data: st.DataObject) -> None:
    damaged = bytearray(signed.data)
    at = data.draw(st.integers(0, 0x200 + len(_FIRMWARE) - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ImageFormatError):
        read_image(bytes(damaged))


@given(st.data())
def test_a_cut_image_is_noticed(signed: SignedImage, data: st.DataObject) -> None:
    with pytest.raises(ImageFormatError):
        read_image(signed.data[: data.draw(st.integers(0, len(signed.data) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_an_error(rest: bytes) -> None:
    with pytest.raises(ImageFormatError):
        read_image(struct.pack("<I", 0x96F3B83D) + rest)


@pytest.mark.parametrize("version", ["one", "1.2.3+99999999999", ""])
def test_a_bad_version_is_refused(version: str, keys: tuple[Path, Path]) -> None:
    with pytest.raises(SigningError, match="no image for cortex-m4"):
        _sign(keys[0], version)


def test_a_key_that_cannot_sign_is_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    for key in (tmp_path / "missing", tmp_path / "text", keys[1]):
        with pytest.raises(SigningError, match="EDGELOOP_SIGNING_KEY"):
            _sign(key)
