"""Puts everything of one compilation under one OCI manifest."""

from collections.abc import Sequence

from services.artifact_builder.packaging.environment import current_environment
from services.artifact_builder.packaging.statement import signed_compilation_provenance
from services.artifact_builder.signers import Signer
from shared.artifacts.compilation import BOARD_ANNOTATION, REPORT_FILE, VERSION_ANNOTATION, Report
from shared.artifacts.oci import MANIFEST_MEDIA_TYPE, ArtifactFile, MediaType, manifest_of
from shared.artifacts.provenance import CompilationParameters


def packed_compilation(
    report: Report, files: Sequence[ArtifactFile], *, asked: CompilationParameters, signer: Signer
) -> tuple[ArtifactFile, ...]:
    """Return all that the artifact consists of; the OCI manifest, whose digest is the artifact's, comes last.

    Args:
        report: becomes the config.
        files: the model, and everything that was made of it.
        asked: what the provenance says was asked for.
        signer: signs the provenance.

    Raises:
        services.artifact_builder.signers.SignerError: the key does not sign.
    """
    environment = current_environment(report.toolchain)
    config = ArtifactFile((report.model_dump_json(indent=2) + "\n").encode(), MediaType.COMPILATION, REPORT_FILE)
    layers = [
        *files,
        ArtifactFile(environment.to_bytes(), MediaType.ENVIRONMENT, "environment/environment.json"),
        ArtifactFile(environment.requirements(), MediaType.REQUIREMENTS, "environment/requirements.txt"),
    ]
    envelope = signed_compilation_provenance(asked, environment, [config, *layers], signer)
    layers.append(ArtifactFile(envelope, MediaType.PROVENANCE, "provenance.dsse.json"))
    annotations = {BOARD_ANNOTATION: report.board, VERSION_ANNOTATION: report.version}
    manifest = manifest_of(config, layers, annotations).to_bytes()
    return (*layers, config, ArtifactFile(manifest, MANIFEST_MEDIA_TYPE, "manifest.json"))
