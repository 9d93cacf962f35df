"""How a setting names a signing key: a PEM file, or a key in a PKCS#11 token by RFC 7512."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

PKCS11_SCHEME: Final = "pkcs11:"
NEXT: Final = (
    "Next: point EDGELOOP_SIGNING_KEY at an Ed25519 or ECDSA P-256 private key in PEM without a password, "
    "or at one in a token: pkcs11:token=NAME;object=KEY?pin-source=FILE"
)
DEFAULT_MODULE: Final = "libp11-kit.so.0"
"""p11-kit, which is a module too: it stands for all that the machine knows."""
_PATH: Final = frozenset({"token", "serial", "object", "id"})
_QUERY: Final = frozenset({"pin-source", "module-path"})


class SignerError(ValueError):
    """No usable signing key; the message names it, and never its content or PIN."""


@dataclass(frozen=True, slots=True)
class KeyUri:
    """Which key, in which token, of which module."""

    token: str | None
    serial: bytes | None
    label: str | None
    key_id: bytes | None
    pin_source: Path | None
    module: str

    @property
    def described(self) -> str:
        """The key for messages: nothing of it is secret."""
        return f"key {self.label or (self.key_id or b'').hex()} in token {self.token or (self.serial or b'').decode()}"


def parse_key_uri(uri: str) -> KeyUri:
    """Read the attributes of RFC 7512 that say which key to use.

    Raises:
        SignerError: an attribute is unknown or missing, or the PIN stands in the URI itself.
    """
    parts = urlsplit(uri)
    path, query = _attributes(parts.path, ";"), _attributes(parts.query, "&")
    if "pin-value" in query or "pin-value" in path:
        raise SignerError(
            "a pkcs11: URI with pin-value would put the PIN into settings and logs. Next: write the PIN to a file that "
            "only the builder can read, and name that with pin-source"
        )
    if unknown := sorted((path.keys() - _PATH - {"type"}) | (query.keys() - _QUERY)):
        raise SignerError(
            f"a pkcs11: URI with {', '.join(unknown)}; allowed are {', '.join(sorted(_PATH | _QUERY))}. {NEXT}"
        )
    if not path.keys() & {"token", "serial"} or not path.keys() & {"object", "id"}:
        raise SignerError(f"a pkcs11: URI that does not name a token and an object. {NEXT}")
    source = query.get("pin-source")
    return KeyUri(
        token=_text(path.get("token")),
        serial=path.get("serial"),
        label=_text(path.get("object")),
        key_id=path.get("id"),
        pin_source=None if source is None else Path(source.decode().removeprefix("file://").removeprefix("file:")),
        module=query.get("module-path", DEFAULT_MODULE.encode()).decode(),
    )


def _attributes(text: str, separator: str) -> Mapping[str, bytes]:
    pairs = (part.partition("=") for part in text.split(separator) if part)
    return {name: unquote(value, encoding="latin-1").encode("latin-1") for name, _, value in pairs}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def secret_files(key: Path | str) -> tuple[Path, ...]:
    """Return the files that nobody but the builder may read: the private key, or the PIN of its token.

    Raises:
        SignerError: the URI cannot be used.
    """
    if not str(key).startswith(PKCS11_SCHEME):
        return (Path(key).absolute(),)
    source = parse_key_uri(str(key)).pin_source
    return () if source is None else (source.absolute(),)
