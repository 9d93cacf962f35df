"""What the builder vouches for, and its signature."""

from collections.abc import Sequence
from urllib.parse import quote

from services.artifact_builder.packaging.facts import Facts
from services.artifact_builder.signers import Signer
from shared.artifacts.dsse import enveloped
from shared.artifacts.oci import ArtifactFile
from shared.artifacts.provenance import (
    BUILDER_ID,
    BuildDefinition,
    Builder,
    ExternalParameters,
    InternalParameters,
    ManifestReference,
    Provenance,
    ResourceDescriptor,
    RunDetails,
    Statement,
    Subject,
)
from shared.events import digest_of

MANIFEST_FILE = "edgeloop.yaml"


def signed_provenance(facts: Facts, files: Sequence[ArtifactFile], signer: Signer) -> bytes:
    """Return the envelope of the provenance of `files`, the release index among them.

    Raises:
        services.artifact_builder.signers.SignerError: the token does not sign.
    """
    statement = _statement(facts, files)
    return enveloped(statement.to_bytes(), key_id=signer.public_key.key_id, sign=signer.sign)


def _statement(facts: Facts, files: Sequence[ArtifactFile]) -> Statement:
    release, environment = facts.release, facts.environment
    return Statement(
        subject=tuple(
            Subject(name=file.name, digest=_sha256(file.blob.digest))
            for file in sorted(files, key=lambda file: file.name)
        ),
        predicate=Provenance(
            buildDefinition=BuildDefinition(
                externalParameters=ExternalParameters(
                    project=release.project,
                    repository=release.repository,
                    commit=release.commit,
                    trigger=release.trigger,
                    manifest=ManifestReference(path=MANIFEST_FILE, digest=facts.manifest_digest),
                ),
                internalParameters=InternalParameters(
                    signingKey=facts.key.key_id,
                    signingAlgorithm=facts.key.algorithm,
                    environment=digest_of(environment.to_bytes()),
                ),
                resolvedDependencies=_dependencies(facts),
            ),
            runDetails=RunDetails(builder=Builder(id=BUILDER_ID, version={"edgeloop": environment.edgeloop})),
        ),
    )


def _dependencies(facts: Facts) -> tuple[ResourceDescriptor, ...]:
    release, environment = facts.release, facts.environment
    repository = quote(release.repository, safe="/:@.-_~%+")
    return (
        ResourceDescriptor(
            uri=f"git+{repository}@{release.commit}", name="repository", digest={"gitCommit": release.commit}
        ),
        *(ResourceDescriptor(name=part.blob.name, digest=_sha256(part.blob.digest)) for part in facts.datasets),
        ResourceDescriptor(
            name="edgeloop", uri=f"pkg:pypi/edgeloop@{environment.edgeloop}", digest=_sha256(environment.sources)
        ),
        *(
            ResourceDescriptor(
                name=package.name,
                uri=package.purl,
                digest=None if package.files is None else {"recordSha256": package.files.removeprefix("sha256:")},
            )
            for package in environment.packages
        ),
    )


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
