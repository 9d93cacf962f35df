"""Puts everything of a release under one OCI manifest."""

import json
from collections.abc import Mapping, Sequence

from services.artifact_builder.packaging.bill_of_materials import bill_of_materials
from services.artifact_builder.packaging.environment import current_environment
from services.artifact_builder.packaging.facts import DatasetFacts, Facts
from services.artifact_builder.packaging.model_card import model_card
from services.artifact_builder.packaging.statement import signed_provenance
from services.artifact_builder.signers import Signer
from shared.artifacts.environment import Environment
from shared.artifacts.oci import (
    MANIFEST_MEDIA_TYPE,
    PREPROCESSING,
    TESTS,
    ArtifactFile,
    MediaType,
    manifest_of,
)
from shared.events import digest_of
from shared.events.dataset import DatasetRole
from shared.releases.manifest import Manifest
from shared.releases.release import Release


def packed(
    release: Release,
    files: Sequence[ArtifactFile],
    *,
    snapshot: bytes,
    manifest_file: bytes,
    signer: Signer,
    environment: Environment | None = None,
) -> tuple[ArtifactFile, ...]:
    """Return all that an artifact consists of, in the order of storing: the OCI manifest, whose digest is the
    artifact's, comes last.

    Args:
        release: the release index.
        files: everything that the index names, and the index itself, which is last.
        snapshot: the repository as `snapshot_of` gives it.
        manifest_file: `edgeloop.yaml`, byte for byte.
        signer: signs the provenance.
        environment: what built it; by default what is installed here.

    Raises:
        services.artifact_builder.signers.SignerError: the token does not sign.
        InvalidBillError: the bill of materials does not follow its schema.
    """
    *named, index = files
    facts = Facts(
        release=release,
        datasets=_datasets(release, {file.blob.digest: file.data for file in named}),
        environment=environment or current_environment(_compilers(release)),
        key=signer.public_key,
        manifest_digest=digest_of(manifest_file),
    )
    layers = [
        *named,
        ArtifactFile(snapshot, MediaType.SNAPSHOT, "code/repository.tar", _marks(release.manifest)),
        ArtifactFile(facts.environment.to_bytes(), MediaType.ENVIRONMENT, "environment/environment.json"),
        ArtifactFile(facts.environment.requirements(), MediaType.REQUIREMENTS, "environment/requirements.txt"),
        ArtifactFile(model_card(facts).encode(), MediaType.MODEL_CARD, "MODEL_CARD.md"),
        ArtifactFile(bill_of_materials(facts), MediaType.BOM, "bom.cdx.json"),
    ]
    envelope = signed_provenance(facts, [index, *layers], signer)
    layers.append(ArtifactFile(envelope, MediaType.PROVENANCE, "provenance.dsse.json"))
    manifest = manifest_of(index, layers, _annotations(release)).to_bytes()
    return (*layers, index, ArtifactFile(manifest, MANIFEST_MEDIA_TYPE, "manifest.json"))


def _datasets(release: Release, data: Mapping[str, bytes]) -> tuple[DatasetFacts, ...]:
    declared, found = release.manifest.data, release.datasets
    roles = [(found.train, declared.train.role), (found.test, declared.test.role)]
    roles += [(part.blob, part.role) for part in found.more]
    roles += [(blob, DatasetRole.PRODUCTION) for blob in found.production]
    return tuple(DatasetFacts.of(blob, role, data[blob.digest]) for blob, role in roles)


def _compilers(release: Release) -> str:
    return ", ".join(sorted({firmware.toolchain for firmware in release.firmware}))


def _marks(manifest: Manifest) -> dict[str, str]:
    """Return which of the repository's files preprocess, and how its tests are run."""
    marks = {}
    if manifest.preprocessing:
        marks[PREPROCESSING] = json.dumps(manifest.preprocessing.files)
    if manifest.tests:
        marks[TESTS] = json.dumps(manifest.tests.command)
    return marks


def _annotations(release: Release) -> dict[str, str]:
    """Return the annotations that registries show."""
    said = {
        "org.opencontainers.image.title": release.project,
        "org.opencontainers.image.version": release.manifest.release,
        "org.opencontainers.image.source": release.repository,
        "org.opencontainers.image.revision": release.commit,
        "org.opencontainers.image.licenses": release.manifest.licences.model or "",
    }
    return {name: value for name, value in said.items() if value}
