"""Reads a CycloneDX bill of materials back, and compares it with what the artifact has."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from shared.artifacts.environment import Environment
from shared.artifacts.evidence import RefusedError, blobs_of, parsed, require
from shared.releases.licences import NOASSERTION
from shared.releases.release import Release

SPEC_VERSION: Final = "1.6"
MODEL_REF: Final = "model"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Hash(_Part):
    alg: str
    content: str


class Component(_Part):
    """As much of a component as is compared."""

    type: str
    name: str
    bom_ref: str = Field(alias="bom-ref")
    version: str = ""
    purl: str = ""
    hashes: tuple[_Hash, ...] = ()
    licenses: tuple[Mapping[str, Any], ...] = ()
    modelCard: Mapping[str, Any] | None = None  # noqa: N815


class Bill(_Part):
    """As much of a bill as is compared."""

    bomFormat: str  # noqa: N815
    specVersion: str  # noqa: N815
    components: tuple[Component, ...] = Field(min_length=1)


def check(data: bytes, release: Release, environment: Environment) -> str:
    """Return how much the bill names.

    Raises:
        RefusedError: it is no bill, or one of the files or packages is missing in it, or differs.
    """
    bill = parsed(Bill, data, "the bill of materials")
    kind = (bill.bomFormat, bill.specVersion)
    require(kind == ("CycloneDX", SPEC_VERSION), f"{kind[0]} {kind[1]}", f"CycloneDX {SPEC_VERSION}")
    hashes = {found.content for part in bill.components for found in part.hashes if found.alg == "SHA-256"}
    named = [*blobs_of(release.model), *blobs_of(release.datasets), *(part.image for part in release.firmware)]
    named += [part.archive for part in release.libraries]
    missing = [blob.name for blob in named if blob.digest.removeprefix("sha256:") not in hashes]
    require(not missing, f"no component has the digest of {', '.join(missing)}", "model, data and firmware")
    purls = {part.purl for part in bill.components}
    absent = [package.name for package in environment.packages if package.purl not in purls]
    require(not absent, f"no component is {', '.join(absent[:5])}", "every package of the environment")
    _check_model(bill, release)
    return f"{len(bill.components)} components"


def _check_model(bill: Bill, release: Release) -> None:
    found = [part for part in bill.components if part.bom_ref == MODEL_REF]
    if len(found) != 1 or found[0].type != "machine-learning-model" or found[0].modelCard is None:
        raise RefusedError("no machine-learning-model with a model card", f"one with bom-ref {MODEL_REF}")
    wanted = release.model.int8.digest.removeprefix("sha256:")
    digests = [part.content for part in found[0].hashes]
    require(digests == [wanted], f"the model's digest is {digests}", f"the int8 model, {wanted}")


def licences_in(data: bytes) -> Mapping[str, str]:
    """Return the licence expressions of a bill by component."""
    bill = parsed(Bill, data, "the bill of materials")
    return {f"component {ref}": expression for ref, expression in _licences(bill)}


def _licences(bill: Bill) -> Iterator[tuple[str, str]]:
    for part in bill.components:
        for licence in part.licenses:
            yield part.bom_ref, str(licence.get("expression", NOASSERTION))
