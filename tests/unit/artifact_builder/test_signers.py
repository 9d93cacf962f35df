"""Keys in files and in tokens: what they sign is what MCUboot, imgtool and DSSE verify."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from services.artifact_builder.firmware.signing import generate_key, sign_image
from services.artifact_builder.key_uri import SignerError, parse_key_uri, secret_files
from services.artifact_builder.signers import signer_for
from shared.artifacts.keys import KeyAlgorithm, PublicKeyError, load_public_key, signer_of
from shared.boards import image_board
from shared.emulation.mcuboot_image import TlvType, read_image

MODEL = "sha256:" + "5a" * 32
FIRMWARE = bytes(range(256)) * 4


def make(folder: Path, algorithm: KeyAlgorithm) -> tuple[Path, Path]:
    private, public = folder / "signing.pem", folder / "signing.pub.pem"
    generate_key(private, public, algorithm)
    return private, public


def signed(key: Path | str, **more: int) -> bytes:
    board = image_board("cortex-m4")
    return sign_image(FIRMWARE, board, version="1.2.3+7", model_digest=MODEL, key=key, **more).data


def imgtool_verifies(image: bytes, public: Path, folder: Path) -> bool:
    (folder / "image.img").write_bytes(image)
    command = [sys.executable, "-m", "imgtool.main", "verify", "-k", str(public), str(folder / "image.img")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_imgtool_and_the_gateways_verify_what_a_key_in_a_file_signed(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    private, public = make(tmp_path, algorithm)
    image = signed(private)
    assert imgtool_verifies(image, public, tmp_path)
    key = load_public_key(public)
    assert signer_of(read_image(image), [key]) == key
    assert key.key_id == read_image(image).tlvs[TlvType.KEY_HASH].hex()


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_the_same_image_signed_twice_is_the_same_bytes(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    private, _ = make(tmp_path, algorithm)
    assert signed(private) == signed(private)


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_another_key_did_not_sign_it(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    private, _ = make(tmp_path, algorithm)
    image = read_image(signed(private))
    for name, other in zip(("one", "two"), KeyAlgorithm, strict=True):
        (tmp_path / name).mkdir()
        assert signer_of(image, [load_public_key(make(tmp_path / name, other)[1])]) is None


def test_the_security_counter_follows_from_the_version_unless_it_is_given(tmp_path: Path) -> None:
    private, _ = make(tmp_path, KeyAlgorithm.ED25519)
    assert read_image(signed(private)).security_counter == (1 << 24) + (2 << 16) + 3
    assert read_image(signed(private, security_counter=9)).security_counter == 9


def test_what_an_unsigned_tlv_says_of_board_and_model_counts_for_nothing(tmp_path: Path) -> None:
    private, _ = make(tmp_path, KeyAlgorithm.ED25519)
    image = bytearray(signed(private))
    size = int.from_bytes(image[10:12], "little")
    at = 0x200 + len(FIRMWARE) + size + 2
    more = b"\xa1\x00\x05\x00other"
    image[at : at + 2] = (int.from_bytes(image[at : at + 2], "little") + len(more)).to_bytes(2, "little")
    assert read_image(bytes(image) + more).board == "cortex-m4"


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    p256 = ec.generate_private_key(ec.SECP256R1())
    wrong = {
        "p384": ec.generate_private_key(ec.SECP384R1()).private_bytes(*plain),
        "rsa": rsa.generate_private_key(65537, 2048).private_bytes(*plain),
        "locked": p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")),
        "text": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    }
    for name, data in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SignerError, match=r"allowed are Ed25519|no private key in PEM") as refused:
            signer_for(tmp_path / name)
        assert "EDGELOOP_SIGNING_KEY" in str(refused.value)
        assert data.decode().splitlines()[1] not in str(refused.value)
    with pytest.raises(SignerError, match="cannot be read: No such file"):
        signer_for(tmp_path / "none")


def test_a_public_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("none")
    with pytest.raises(PublicKeyError, match="openssl pkey"):
        load_public_key(tmp_path / "text")


def test_no_private_key_shows_in_what_a_signer_prints(tmp_path: Path) -> None:
    private, _ = make(tmp_path, KeyAlgorithm.ED25519)
    assert "PrivateKey" not in repr(signer_for(private))


def test_a_uri_says_token_object_pin_file_and_module() -> None:
    uri = parse_key_uri("pkcs11:token=Release%20keys;object=fw;id=%01%ff?pin-source=file:/run/pin&module-path=/a/b.so")
    assert (uri.token, uri.label, uri.key_id) == ("Release keys", "fw", b"\x01\xff")
    assert (uri.pin_source, uri.module) == (Path("/run/pin"), "/a/b.so")
    assert uri.described == "key fw in token Release keys"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pkcs11:token=a;object=b?pin-value=4711", "write the PIN to a file"),
        ("pkcs11:token=a", "does not name a token and an object"),
        ("pkcs11:object=b", "does not name a token and an object"),
        ("pkcs11:token=a;object=b;colour=red", "with colour; allowed are"),
        ("pkcs11:token=a;object=b?pin=1", "with pin; allowed are"),
    ],
)
def test_a_uri_that_cannot_be_used_says_why_and_never_the_pin(uri: str, said: str) -> None:
    with pytest.raises(SignerError, match=said) as refused:
        parse_key_uri(uri)
    assert "4711" not in str(refused.value)


def test_the_files_that_steps_must_not_see_are_known() -> None:
    assert secret_files("/keys/signing.pem") == (Path("/keys/signing.pem"),)
    assert secret_files("pkcs11:token=a;object=b?pin-source=/run/pin") == (Path("/run/pin"),)
    assert secret_files("pkcs11:token=a;object=b") == ()
