"""What is asked of a compilation beyond what is asked of every artifact: that its report is about these files."""

from shared.artifacts.compilation import (
    BOARD_ANNOTATION,
    ELF_FILE,
    IMAGE_FILE,
    MODEL_FILE,
    REPORT_FILE,
    VERSION_ANNOTATION,
    CompileReport,
)
from shared.artifacts.evidence import Evidence, RefusedError, require
from shared.artifacts.images import check_elf, check_image
from shared.artifacts.oci import MediaType
from shared.artifacts.provenance import COMMAND_LINE_ID, CompilationDefinition
from shared.events import digest_of


def check_report(evidence: Evidence) -> str:
    """The report is about this model and this compiler, and the manifest's annotations are the report's."""
    report, annotations = evidence.report, evidence.manifest.annotations
    comparisons = (
        ("the config's title", evidence.manifest.config.title, REPORT_FILE),
        ("model", report.model, digest_of(evidence.only(MediaType.TFLITE))),
        ("toolchain", report.toolchain, evidence.environment.compiler),
        ("board", report.board, annotations.get(BOARD_ANNOTATION)),
        ("version", report.version, annotations.get(VERSION_ANNOTATION)),
    )
    for what, said, found in comparisons:
        require(said == found, f"{what}: {REPORT_FILE} says {said}, the artifact has {found}", "the same")
    return f"{report.board}, {report.version}, {report.numerics}"


def check_files(evidence: Evidence) -> str:
    """Every file is of the kind that its name says, and what belongs to a compilation is there."""
    kinds = {layer.title: layer.mediaType for layer in evidence.manifest.layers}
    report = evidence.report
    wanted = {MODEL_FILE: MediaType.TFLITE}
    if isinstance(report, CompileReport):
        wanted |= {ELF_FILE: MediaType.ELF, IMAGE_FILE: MediaType.IMAGE}
    else:
        wanted |= {library.archive: MediaType.ZIP for library in report.libraries}
    for title, media_type in wanted.items():
        require(kinds.get(title) == media_type, f"{title} is {kinds.get(title, 'missing')}", media_type)
    sources = len(evidence.manifest.layers_of(MediaType.C_SOURCE))
    require(sources > 0, "no C source", "all that was compiled")
    return f"{sources} C files and headers"


def check_compilation_provenance(evidence: Evidence) -> str:
    """The provenance agrees with the report and the environment."""
    (statement, key), report = evidence.statement, evidence.report
    definition = statement.predicate.buildDefinition
    if not isinstance(definition, CompilationDefinition):
        raise RefusedError(f"its build type is {definition.buildType}", "that of a compilation")
    asked, internal = definition.externalParameters, definition.internalParameters
    environment = evidence.manifest.layers_of(MediaType.ENVIRONMENT)
    comparisons = (
        ("model", asked.model, report.model),
        ("board", asked.board, report.board),
        ("numerics", asked.numerics, report.numerics),
        ("release", asked.release, report.version.partition("+")[0]),
        ("environment", [internal.environment], [layer.digest for layer in environment]),
        ("signing key", internal.signingKey, key.key_id),
        ("builder", statement.predicate.runDetails.builder.id, COMMAND_LINE_ID),
    )
    for what, said, found in comparisons:
        require(said == found, f"{what}: the provenance says {said}, the artifact has {found}", "the same")
    resolved = {value for part in definition.resolvedDependencies for value in (part.digest or {}).values()}
    require(report.model.removeprefix("sha256:") in resolved, "the model is no resolved dependency", report.model)
    return f"{MODEL_FILE} for {asked.board}, {len(definition.resolvedDependencies)} dependencies"


def check_compiled_image(evidence: Evidence) -> str:
    """The image has its hash and a trusted signature, and says of itself what the report says of it.

    In place of an image a library board has archives: they are those of the report.
    """
    report = evidence.report
    if not isinstance(report, CompileReport):
        archives = {layer.title: layer.digest for layer in evidence.manifest.layers_of(MediaType.ZIP)}
        said = {library.archive: library.archive_digest for library in report.libraries}
        require(said == archives, f"the archives are {archives}, {REPORT_FILE} says {said}", "the same")
        images = evidence.manifest.layers_of(MediaType.IMAGE)
        require(not images, f"{images and images[0].title} is an image", f"none: {report.board} gets a library")
        return f"no image, {', '.join(archives)}"
    data = evidence.only(MediaType.IMAGE)
    claims = {
        "image_hash": report.image_hash,
        "version": report.version,
        "model_digest": report.model,
        "size_bytes": len(data),
    }
    check_image(data, report.board, claims, evidence.trusted, document=REPORT_FILE)
    return report.board


def check_compiled_elf(evidence: Evidence) -> str:
    """The ELF file loads what was signed, and nothing else."""
    report = evidence.report
    elves = evidence.manifest.layers_of(MediaType.ELF)
    if not isinstance(report, CompileReport):
        require(not elves, f"{elves and elves[0].title} is an ELF file", f"none: {report.board} gets a library")
        return "no ELF file"
    check_elf(evidence.only(MediaType.ELF), evidence.only(MediaType.IMAGE), report.board, name=ELF_FILE)
    return f"loads {IMAGE_FILE}"
