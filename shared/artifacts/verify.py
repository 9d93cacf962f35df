"""Checks everything that an artifact says, offline: nothing but its own bytes and the keys that are trusted."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from shared.artifacts import bill, card, layout
from shared.artifacts.evidence import Evidence, RefusedError, UnsignedError, blobs_of, require
from shared.artifacts.images import check_elf, check_image
from shared.artifacts.keys import PublicKey
from shared.artifacts.oci import PREPROCESSING, TESTS, ArtifactManifest, ArtifactType, Descriptor, MediaType, blob_path
from shared.artifacts.provenance import BUILDER_ID, BuildDefinition
from shared.artifacts.verify_compilation import (
    check_compilation_provenance,
    check_compiled_elf,
    check_compiled_image,
    check_files,
    check_report,
)
from shared.events import Blob, Check, CheckOutcome, digest_of
from shared.releases.licences import licence_problem

MANIFEST_FILE: Final = "edgeloop.yaml"
SIGNATURE: Final = "signature"


def check_blobs(evidence: Evidence) -> str:
    """Every file has the size and the digest that the manifest says."""
    total = sum(len(evidence.read(file)) for file in evidence.manifest.files)
    return f"{len(evidence.manifest.files)} files, {total:,} bytes"


def check_index(evidence: Evidence) -> str:
    """Every blob that the release index names is a layer, with the same size, type and title."""
    layers = {(layer.digest, layer.size, layer.mediaType, layer.title) for layer in evidence.manifest.layers}
    named = list(blobs_of(evidence.release))
    for blob in named:
        place = f"{blob.name or 'a file'} ({blob.digest}, {blob.size_bytes} bytes, {blob.media_type})"
        wanted = (blob.digest, blob.size_bytes, blob.media_type, blob.name)
        require(wanted in layers, f"the index names {place}, which is no layer", "a layer for every file of the index")
    return f"{len(named)} references, each to a layer"


def check_signature(evidence: Evidence) -> str:
    """A trusted key signed the provenance."""
    _, key = evidence.statement
    return f"{key.algorithm} key {key.key_id}"


def check_subjects(evidence: Evidence) -> str:
    """The provenance speaks of every file but itself, and of nothing else."""
    statement, _ = evidence.statement
    said = {(subject.name, tuple(sorted(subject.digest.items()))) for subject in statement.subject}
    there = {
        (file.title, (("sha256", file.digest.removeprefix("sha256:")),))
        for file in evidence.manifest.files
        if file.mediaType != MediaType.PROVENANCE
    }
    differing = sorted(name for name, _ in said ^ there)
    require(not differing, f"subjects and files differ: {', '.join(differing[:10])}", "one subject for each file")
    require(len(statement.subject) == len(there), "a subject twice", "one subject for each file")
    return f"{len(there)} subjects"


def check_provenance(evidence: Evidence) -> str:
    """The provenance agrees with the release index, the snapshot and the environment."""
    (statement, key), release = evidence.statement, evidence.release
    definition = statement.predicate.buildDefinition
    if not isinstance(definition, BuildDefinition):
        raise RefusedError(f"its build type is {definition.buildType}", "that of a release")
    asked, internal = definition.externalParameters, definition.internalParameters
    manifest = _snapshot(evidence).get(MANIFEST_FILE, b"")
    environment = evidence.manifest.layers_of(MediaType.ENVIRONMENT)
    comparisons = (
        ("project", asked.project, release.project),
        ("repository", asked.repository, release.repository),
        ("commit", asked.commit, release.commit),
        ("trigger", asked.trigger, release.trigger),
        ("digest of edgeloop.yaml", asked.manifest.digest, digest_of(manifest)),
        ("environment", [internal.environment], [layer.digest for layer in environment]),
        ("signing key", internal.signingKey, key.key_id),
        ("builder", statement.predicate.runDetails.builder.id, BUILDER_ID),
    )
    for what, said, found in comparisons:
        require(said == found, f"{what}: the provenance says {said}, the artifact has {found}", "the same")
    resolved = {value for part in definition.resolvedDependencies for value in (part.digest or {}).values()}
    wanted = {release.commit, *(_hex(blob.digest) for blob in blobs_of(release.datasets))}
    require(wanted <= resolved, f"no resolved dependency has {wanted - resolved}", "the commit and every dataset")
    return f"{release.repository} at {release.commit[:12]}, {len(definition.resolvedDependencies)} dependencies"


def check_images(evidence: Evidence) -> str:
    """Every image has its hash, a trusted signature, and says of itself what the index says of it."""
    release = evidence.release
    for firmware in release.firmware:
        said = {
            "image_hash": firmware.image_hash,
            "version": firmware.version,
            "model_digest": release.model.int8.digest,
            "size_bytes": firmware.image.size_bytes,
            "security_counter": firmware.security_counter,
        }
        check_image(
            _layer(evidence, firmware.image, f"the image for {firmware.board}"),
            firmware.board,
            said,
            evidence.trusted,
            document="the index",
        )
    images = {layer.digest for layer in evidence.manifest.layers_of(MediaType.IMAGE)}
    unknown = images - {firmware.image.digest for firmware in release.firmware}
    require(not unknown, f"images that the index does not name: {', '.join(unknown)}", "none")
    return ", ".join(firmware.board for firmware in release.firmware) or "no board"


def check_elves(evidence: Evidence) -> str:
    """Every ELF file loads the signed image of its board, and nothing else."""
    for firmware in evidence.release.firmware:
        elf = _layer(evidence, firmware.elf, f"the ELF file for {firmware.board}")
        image = _layer(evidence, firmware.image, f"the image for {firmware.board}")
        check_elf(elf, image, firmware.board, name=firmware.elf.name or "its ELF file")
    return f"{len(evidence.release.firmware)} files, each loads its image"


def _layer(evidence: Evidence, blob: Blob, what: str) -> bytes:
    """Return the bytes that the index names."""
    found = next((layer for layer in evidence.manifest.layers if layer.digest == blob.digest), None)
    if found is None:
        raise RefusedError(f"no layer is {what}", "one layer for each")
    return evidence.read(found)


def check_bill(evidence: Evidence) -> str:
    """The bill of materials names model, data, firmware and packages with the digests and versions found."""
    return bill.check(evidence.only(MediaType.BOM), evidence.release, evidence.environment)


def check_licences(evidence: Evidence) -> str:
    """Every licence is an SPDX expression, or said to be unknown."""
    declared = evidence.release.manifest.licences
    said = {name: value for name, value in declared.model_dump().items() if value}
    said |= {f"package {package.name}": package.licence for package in evidence.environment.packages}
    said |= bill.licences_in(evidence.only(MediaType.BOM))
    problems = [f"{name}: {problem}" for name, value in said.items() if (problem := licence_problem(value))]
    require(not problems, "; ".join(problems[:5]), "SPDX licence expressions, or NOASSERTION")
    return f"{len(said)} expressions"


def check_card(evidence: Evidence) -> str:
    """The model card's figures are those of the index."""
    try:
        text = evidence.only(MediaType.MODEL_CARD).decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"the model card: {error}", "UTF-8") from error
    return card.check(text, evidence.release)


def check_environment(evidence: Evidence) -> str:
    """The environment is readable, and its requirements are the same packages."""
    environment = evidence.environment
    same = evidence.only(MediaType.REQUIREMENTS) == environment.requirements()
    require(same, "requirements.txt lists other packages than the environment", "the same")
    return f"{environment.python}, {len(environment.packages)} packages"


def check_snapshot(evidence: Evidence) -> str:
    """The repository's snapshot has the manifest, and the files that its annotations and the index name."""
    files = _snapshot(evidence)
    require(MANIFEST_FILE in files, f"the snapshot has no {MANIFEST_FILE}", "the repository's files")
    manifest = evidence.release.manifest
    [layer] = evidence.manifest.layers_of(MediaType.SNAPSHOT)
    declared = {
        PREPROCESSING: None if manifest.preprocessing is None else list(manifest.preprocessing.files),
        TESTS: None if manifest.tests is None else list(manifest.tests.command),
    }
    for key, wanted in declared.items():
        said = json.loads(layer.annotations[key]) if key in layer.annotations else None
        require(said == wanted, f"annotation {key} says {said}, the manifest {wanted}", "the same")
    return f"{len(files)} files"


def _snapshot(evidence: Evidence) -> Mapping[str, bytes]:
    data = evidence.only(MediaType.SNAPSHOT)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            return {member.name: _content(archive, member, len(data)) for member in archive}
    except (tarfile.TarError, UnicodeDecodeError, OverflowError, EOFError) as error:
        raise RefusedError(f"the repository's snapshot: {error}", "a tar archive") from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, archive_bytes: int) -> bytes:
    # A sparse member can claim any size.
    fits = 0 <= member.size <= archive_bytes and not member.issparse()
    require(fits, f"{member.name} in the snapshot claims {member.size} bytes", "what the archive has")
    file = archive.extractfile(member) if member.isreg() else None
    return file.read() if file else b""


_Checks: TypeAlias = Mapping[str, Callable[[Evidence], str]]
CHECKS: Final[_Checks] = {
    "blobs": check_blobs,
    "release-index": check_index,
    SIGNATURE: check_signature,
    "subjects": check_subjects,
    "provenance": check_provenance,
    "images": check_images,
    "elf": check_elves,
    "bill-of-materials": check_bill,
    "licences": check_licences,
    "model-card": check_card,
    "environment": check_environment,
    "snapshot": check_snapshot,
}
"""What is asked of a release's content, in the order of the report."""

COMPILATION_CHECKS: Final[_Checks] = {
    "blobs": check_blobs,
    "report": check_report,
    "kinds": check_files,
    SIGNATURE: check_signature,
    "subjects": check_subjects,
    "provenance": check_compilation_provenance,
    "image": check_compiled_image,
    "elf": check_compiled_elf,
    "environment": check_environment,
}
"""What is asked of a compilation's."""

_CHECKS_OF: Final[Mapping[ArtifactType, _Checks]] = {
    ArtifactType.RELEASE: CHECKS,
    ArtifactType.COMPILATION: COMPILATION_CHECKS,
}


def verify(
    manifest: bytes, fetch: Callable[[Descriptor], bytes], trusted: Sequence[PublicKey], *, digest: str = ""
) -> tuple[Check, ...]:
    """Check an artifact's content.

    Args:
        manifest: the manifest's bytes.
        fetch: returns a file's bytes; raises LookupError or ValueError when they cannot be had.
        trusted: keys that may sign.
        digest: what the manifest's digest must be, when that is known.
    """
    found = digest_of(manifest)
    if digest and found != digest:
        return (_failed("manifest", found, digest),)
    try:
        parsed = layout.parse_manifest(manifest)
    except layout.LayoutError as error:
        return (_failed("manifest", str(error), "an artifact of Edgeloop"),)
    evidence = Evidence(parsed, fetch, trusted)
    first, checks = _passed("manifest", found), _CHECKS_OF[parsed.artifactType]
    return (
        first,
        *(_answer(name, partial(check, evidence)) for name, check in checks.items()),
    )


def verify_directory(directory: Path, trusted: Sequence[PublicKey], *, digest: str = "") -> tuple[Check, ...]:
    """Check an exported artifact: the directory first, then its content. Arguments as those of `verify`."""
    try:
        found = layout.open_layout(directory)
        parsed = layout.parse_manifest(found.manifest)
    except layout.LayoutError as error:
        return (
            _failed(
                "layout",
                str(error),
                "an OCI image layout, as `edgeloop artifact export` or `edgeloop compile` writes it",
            ),
        )

    def fetch(file: Descriptor) -> bytes:
        return layout.read_regular(directory, blob_path(file.digest), file.size)

    checks = [_passed("layout", "as exported, byte for byte" if found.exported else "written by another tool")]
    checks.append(_answer("files", lambda: _check_files(directory, layout.expected_files(found, parsed))))
    if found.exported:
        checks.append(_answer("titled-files", lambda: _check_titled_files(directory, parsed)))
    return (*checks, *verify(found.manifest, fetch, trusted, digest=digest))


def _check_files(directory: Path, expected: set[str]) -> str:
    layout.check_files(directory, expected)
    return f"{len(expected)} files, none missing, none unknown"


def _check_titled_files(directory: Path, parsed: ArtifactManifest) -> str:
    return f"{layout.check_titled_files(directory, parsed)} files equal their layers"


def _answer(name: str, question: Callable[[], str]) -> Check:
    try:
        return _passed(name, question())
    except UnsignedError as error:
        if name == SIGNATURE:
            return _failed(name, error.observed, error.allowed)
        return Check(
            name=name,
            outcome=CheckOutcome.INSUFFICIENT_EVIDENCE,
            observed="not looked at, because nobody trusted signed it",
            allowed="",
        )
    except RefusedError as error:
        return _failed(name, error.observed, error.allowed)
    except (ValueError, RecursionError) as error:
        return _failed(name, str(error), "what the format of artifacts says")


def _passed(name: str, observed: str) -> Check:
    return Check(name=name, outcome=CheckOutcome.PASSED, observed=observed, allowed="")


def _failed(name: str, observed: str, allowed: str) -> Check:
    return Check(name=name, outcome=CheckOutcome.FAILED, observed=observed, allowed=allowed)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
