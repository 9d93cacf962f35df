"""How a virtual board leaves its factory: with firmware that runs no model, signed by a key of the factory's own.

The host makes the factory key at first start and keeps it beside the flash files. A board's bootloader trusts it next
to the release key, so no process but the builder ever needs the release's private key.
"""

import contextlib
import io
import struct
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from imgtool.image import Image
from imgtool.keys import load as load_signing_key
from imgtool.version import decode_version

from shared.artifacts.keys import PublicKey
from shared.boards import ImageBoard

HEADER_BYTES = 0x200
_WAIT_FOREVER = struct.pack("<HH", 0xBF30, 0xE7FD)  # wfi; b .-2


def factory_image(board: ImageBoard, key: Path, *, version: str = "0.0.0", padding: int = 0) -> bytes:
    """Return a signed MCUboot image that waits for interrupts and carries no model.

    Args:
        board: Whose memory map it is linked for.
        key: Ed25519 private key in PEM.
        version: As imgtool takes it.
        padding: Zeros behind the code, for firmware of a size.
    """
    reset = board.slot_address + HEADER_BYTES + 8
    payload = struct.pack("<II", board.ram_address + board.ram_bytes, reset | 1) + _WAIT_FOREVER + bytes(padding)
    image = Image(version=decode_version(version), header_size=HEADER_BYTES, pad_header=True)
    with tempfile.TemporaryDirectory() as directory:
        # imgtool reads files only, and says what it does on stdout, which belongs to the caller.
        source = Path(directory, "factory.bin")
        source.write_bytes(payload)
        with contextlib.redirect_stdout(io.StringIO()):
            image.load(str(source))
            image.create(load_signing_key(str(key)), "hash", None)
    return bytes(image.payload)


def factory_key(path: Path) -> PublicKey:
    """Return the public half of the factory's key, made at `path` when it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.touch(mode=0o600)
        path.write_bytes(pem)
    private = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise TypeError(f"{path}: a {type(private).__name__}; the factory signs with an Ed25519 key")
    return PublicKey(private.public_key())
