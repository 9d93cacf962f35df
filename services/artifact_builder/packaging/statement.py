"""What the builder vouches for, and its signature."""

from collections.abc import Sequence
from urllib.parse import quote

from services.artifact_builder.packaging.facts import Facts
from services.artifact_builder.signers import Signer
from shared.artifacts.compilation import MODEL_FILE
from shared.artifacts.dsse import enveloped
from shared.artifacts.environment import Environment
from shared.artifacts.oci import ArtifactFile
from shared.artifacts.provenance import (
    BUILDER_ID,
    COMMAND_LINE_ID,
    BuildDefinition,
    Builder,
    CompilationDefinition,
    CompilationParameters,
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
    release, environment = facts.release, facts.environment
    definition = BuildDefinition(
        externalParameters=ExternalParameters(
            project=release.project,
            repository=release.repository,
            commit=release.commit,
            trigger=release.trigger,
            manifest=ManifestReference(path=MANIFEST_FILE, digest=facts.manifest_digest),
        ),
        internalParameters=_internal(signer, environment),
        resolvedDependencies=_dependencies(facts),
    )
    return _signed(definition, Builder(id=BUILDER_ID, version=_version(environment)), files, signer)


def signed_compilation_provenance(
    asked: CompilationParameters, environment: Environment, files: Sequence[ArtifactFile], signer: Signer
) -> bytes:
    """Return the envelope of the provenance of `files`, which were compiled from one model.

    Raises:
        services.artifact_builder.signers.SignerError: the token does not sign.
    """
    definition = CompilationDefinition(
        externalParameters=asked,
        internalParameters=_internal(signer, environment),
        resolvedDependencies=(
            ResourceDescriptor(name=MODEL_FILE, digest=_sha256(asked.model)),
            *_installed(environment),
        ),
    )
    return _signed(definition, Builder(id=COMMAND_LINE_ID, version=_version(environment)), files, signer)


def _signed(
    definition: BuildDefinition | CompilationDefinition,
    builder: Builder,
    files: Sequence[ArtifactFile],
    signer: Signer,
) -> bytes:
    statement = Statement(
        subject=tuple(
            Subject(name=file.name, digest=_sha256(file.blob.digest))
            for file in sorted(files, key=lambda file: file.name)
        ),
        predicate=Provenance(
            buildDefinition=definition,
            runDetails=RunDetails(builder=builder),
        ),
    )
    return enveloped(statement.to_bytes(), key_id=signer.public_key.key_id, sign=signer.sign)


def _internal(signer: Signer, environment: Environment) -> InternalParameters:
    return InternalParameters(
        signingKey=signer.public_key.key_id,
        signingAlgorithm=signer.public_key.algorithm,
        environment=digest_of(environment.to_bytes()),
    )


def _version(environment: Environment) -> dict[str, str]:
    return {"edgeloop": environment.edgeloop}


def _dependencies(facts: Facts) -> tuple[ResourceDescriptor, ...]:
    release = facts.release
    repository = quote(release.repository, safe="/:@.-_~%+")
    return (
        ResourceDescriptor(
            uri=f"git+{repository}@{release.commit}", name="repository", digest={"gitCommit": release.commit}
        ),
        *(ResourceDescriptor(name=part.blob.name, digest=_sha256(part.blob.digest)) for part in facts.datasets),
        *_installed(facts.environment),
    )


def _installed(environment: Environment) -> tuple[ResourceDescriptor, ...]:
    return (
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
