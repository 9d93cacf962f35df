"""What a stack makes once and keeps: the key that signs images, and the secret shared with forges."""

import secrets

from edgeloop.layout import Layout, write_private


def ensure_signing_key(layout: Layout) -> None:
    """Make the Ed25519 key pair at the first start. Boards trust images by it, so it is never replaced."""
    if layout.signing_key.exists() and layout.verify_key.exists():
        return
    from services.artifact_builder.firmware.signing import generate_key  # noqa: PLC0415 - imgtool, needed at the first start only

    layout.signing_key.parent.mkdir(parents=True, exist_ok=True)
    generate_key(layout.signing_key, layout.verify_key)


def ensure_webhook_secret(layout: Layout) -> str:
    """Return the webhook secret, made at the first start."""
    if not layout.webhook_secret.exists():
        write_private(layout.webhook_secret, secrets.token_hex(32) + "\n")
    return layout.webhook_secret.read_text("utf-8").strip()
