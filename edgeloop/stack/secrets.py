"""What a stack makes once and keeps: the key that signs images, and the secret shared with forges."""

import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edgeloop.layout import Layout, write_private


def ensure_signing_key(layout: Layout) -> None:
    """Make the Ed25519 key pair at the first start. Boards trust images by it, so it is never replaced."""
    if layout.signing_key.exists():
        return
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_private(layout.verify_key, public)
    write_private(layout.signing_key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def ensure_webhook_secret(layout: Layout) -> str:
    """Return the webhook secret, made at the first start."""
    if not layout.webhook_secret.exists():
        write_private(layout.webhook_secret, secrets.token_hex(32) + "\n")
    return layout.webhook_secret.read_text("utf-8").strip()
