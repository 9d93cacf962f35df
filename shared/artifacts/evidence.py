"""An artifact under examination: its files by descriptor, each read with its size and digest checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.artifacts.compilation import Report, ReportDocument
from shared.artifacts.dsse import EnvelopeError, opened
from shared.artifacts.environment import Environment
from shared.artifacts.keys import PublicKey
from shared.artifacts.oci import ArtifactManifest, Descriptor, MediaType
from shared.artifacts.provenance import Statement
from shared.events import Blob, digest_of
from shared.releases.release import Release

Model = TypeVar("Model", bound=BaseModel)


class RefusedError(ValueError):
    """A check failed: what was found, and what would have passed."""

    def __init__(self, observed: str, allowed: str) -> None:
        super().__init__(observed)
        self.observed = observed
        self.allowed = allowed


class UnsignedError(RefusedError):
    """Nobody who is trusted signed the provenance: what it says is not worth a look."""


@dataclass(frozen=True)
class Evidence:
    """What the checks look at. Documents are parsed once, at their first use; every reading may be refused."""

    manifest: ArtifactManifest
    fetch: Callable[[Descriptor], bytes]
    """Raises LookupError or ValueError when the bytes cannot be had."""
    trusted: Sequence[PublicKey]

    def read(self, file: Descriptor) -> bytes:
        """Return a file's bytes.

        Raises:
            RefusedError: it is missing, or its bytes are others.
        """
        try:
            data = self.fetch(file)
        except (LookupError, ValueError) as error:
            raise RefusedError(f"{file.title}: {error}", f"{file.size} bytes of {file.digest}") from error
        if len(data) != file.size or digest_of(data) != file.digest:
            raise RefusedError(
                f"{file.title}: {len(data)} bytes of {digest_of(data)}", f"{file.size} bytes of {file.digest}"
            )
        return data

    def only(self, media_type: MediaType) -> bytes:
        """Return the one layer of this type."""
        found = self.manifest.layers_of(media_type)
        if len(found) != 1:
            raise RefusedError(f"{len(found)} layers of {media_type}", "exactly one")
        return self.read(found[0])

    @cached_property
    def release(self) -> Release:
        """The release index."""
        return parsed(Release, self.read(self.manifest.config), self.manifest.config.title)

    @cached_property
    def report(self) -> Report:
        """The report of a compilation."""
        return parsed(ReportDocument, self.read(self.manifest.config), self.manifest.config.title).root

    @cached_property
    def environment(self) -> Environment:
        """What built it."""
        return parsed(Environment, self.only(MediaType.ENVIRONMENT), "the environment")

    @cached_property
    def statement(self) -> tuple[Statement, PublicKey]:
        """The provenance, and the trusted key that signed it."""
        allowed = "an envelope signed by a trusted key: name its public half with --key"
        try:
            payload, key = opened(self.only(MediaType.PROVENANCE), self.trusted)
        except EnvelopeError as error:
            raise UnsignedError(str(error), allowed) from error
        return parsed(Statement, payload, "the provenance"), key


def parsed(model: type[Model], data: bytes, what: str) -> Model:
    """Return a document, or refuse it."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, details['loc'])) or 'document'}: {details['msg']}" for details in error.errors()[:3]
        )
        raise RefusedError(f"{what}: {found}", f"a {model.__name__}") from error


def blobs_of(node: object) -> Iterator[Blob]:
    """Yield every blob that a document names, whatever its fields are called."""
    if isinstance(node, Blob):
        yield node
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from blobs_of(getattr(node, name))
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from blobs_of(value)
    elif isinstance(node, tuple | list):
        for value in node:
            yield from blobs_of(value)


def require(condition: bool, observed: str, allowed: str) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise RefusedError(observed, allowed)
