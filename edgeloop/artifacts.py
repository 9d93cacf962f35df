"""Artifacts for the command line: from a stack's object store or from a directory, and the keys that are trusted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeloop.errors import UsageError
from edgeloop.events import connected, history
from edgeloop.layout import Layout
from shared.artifacts import layout
from shared.artifacts.keys import PublicKey, PublicKeyError, load_public_key
from shared.artifacts.oci import ArtifactManifest, Descriptor
from shared.artifacts.verify import verify, verify_directory
from shared.events import Check, Event, Payload
from shared.events.artifact import ArtifactBuilt
from shared.store import BlobMissingError, Blobs

_DIGEST: Final = re.compile(r"^sha256:[0-9a-f]{64}$")


def is_digest(target: str) -> bool:
    """Return whether a target is a digest; else it is a directory.

    Raises:
        UsageError: it is neither.
    """
    if _DIGEST.match(target):
        return True
    if Path(target).is_dir():
        return False
    raise UsageError(
        f"{target}: no directory of that name, and no digest (sha256: and 64 hex digits)",
        next_step="`edgeloop artifact list` shows the digests of a stack",
    )


def require_digest(target: str) -> str:
    """Return the digest. Raises UsageError when it is none."""
    if _DIGEST.match(target):
        return target
    raise UsageError(
        f"{target}: not a digest (sha256: and 64 hex digits)",
        next_step="`edgeloop artifact list` shows the digests of a stack",
    )


def trusted_keys(files: Sequence[Path], data: Path) -> tuple[PublicKey, ...]:
    """Return the keys in `files`; without any, the one that the stack in `data` verifies with.

    Raises:
        UsageError: there is none, or a file holds something else.
    """
    named = list(files) or [Layout(data).verify_key]
    if not files and not named[0].is_file():
        raise UsageError(
            f"no key to trust: there is no {named[0]}",
            next_step="name the public key of whoever may sign with --key PUBLIC.pem, or a stack with --data",
        )
    try:
        return tuple(load_public_key(file) for file in named)
    except PublicKeyError as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Stored:
    """What an object store has of one artifact."""

    manifest: bytes
    blobs: Mapping[str, bytes]
    missing: Mapping[str, str]
    """Why a blob could not be read, by digest."""

    def read(self, file: Descriptor) -> bytes:
        """Return a file's bytes. Raises LookupError with the reason when they are missing."""
        return self.get(file.digest)

    def get(self, digest: str) -> bytes:
        """Return the bytes with that digest. Raises as `read`."""
        if digest not in self.blobs:
            raise LookupError(self.missing.get(digest, f"no object {digest}"))
        return self.blobs[digest]


async def stored(url: str, digest: str) -> Stored:
    """Read an artifact from the object store of a bus.

    Raises:
        UsageError: there is no such artifact.
        shared.bus.BusError: the bus is out of reach.
    """
    async with connected(url) as nc:
        store = Blobs(nc.jetstream())
        try:
            manifest = await store.get(digest)
        except BlobMissingError as error:
            raise UsageError(str(error), next_step="`edgeloop artifact list` shows what was built") from error
        blobs, missing = {}, {}
        for file in _parsed(manifest).files:
            try:
                blobs[file.digest] = await store.get(file.digest)
            except BlobMissingError as error:
                missing[file.digest] = str(error)
    return Stored(manifest, blobs, missing)


def _parsed(manifest: bytes) -> ArtifactManifest:
    try:
        return layout.parse_manifest(manifest)
    except layout.LayoutError as error:
        raise UsageError(
            f"not an artifact: {error}", next_step="`edgeloop artifact list` shows the digests of artifacts"
        ) from error


def verified(found: Stored, digest: str, trusted: Sequence[PublicKey]) -> tuple[Check, ...]:
    """Check what an object store has."""
    return verify(found.manifest, found.read, trusted, digest=digest)


def verified_directory(directory: Path, trusted: Sequence[PublicKey]) -> tuple[Check, ...]:
    """Check an exported artifact."""
    return verify_directory(directory, trusted)


def export(found: Stored, out: Path) -> None:
    """Write an artifact as a directory.

    Raises:
        UsageError: the directory is not empty, or the object store lost a part.
    """
    try:
        layout.write_layout(out, found.manifest, found.get)
    except layout.LayoutError as error:
        raise UsageError(f"--out {error}") from error
    except LookupError as error:
        raise UsageError(f"the artifact is not whole: {error}", next_step="push the commit again") from error


def manifest_of(found: Stored) -> ArtifactManifest:
    """Return the manifest of what was read."""
    return _parsed(found.manifest)


def manifest_in(directory: Path) -> ArtifactManifest:
    """Return the manifest in a directory. Raises UsageError when it holds no artifact."""
    try:
        return layout.parse_manifest(layout.open_layout(directory).manifest)
    except layout.LayoutError as error:
        raise UsageError(f"{directory}: {error}") from error


async def built(url: str) -> Sequence[Event[Payload]]:
    """Return what was built, oldest first, as far as the bus remembers.

    Raises:
        shared.bus.BusError: the bus is out of reach.
    """
    async with connected(url) as nc:
        return await history(nc, [ArtifactBuilt])
