"""The CycloneDX ML-BOM: what is in the artifact, under which licence, and what depends on what.

Written as JSON, because the CycloneDX library has no model cards; its copy of the schema checks what is written.
Source: CycloneDX 1.6. No serial number and no date: equal artifacts have equal bills.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from services.artifact_builder.packaging.facts import DatasetFacts, Facts
from shared.artifacts.bill import MODEL_REF, SPEC_VERSION
from shared.artifacts.environment import Package
from shared.events import Blob
from shared.releases.licences import NOASSERTION
from shared.releases.release import Firmware, Library

Json = Mapping[str, Any]

_ARTIFACT: Final = "artifact"
_KERNELS: Final = "edgeloop-kernels"
_UNKNOWN: Final = {"name": "edgeloop:licence", "value": f"{NOASSERTION}: no SPDX expression was declared"}


class InvalidBillError(RuntimeError):
    """A bill that the schema does not take: an error in this module."""


def bill_of_materials(facts: Facts) -> bytes:
    """Return the bill.

    Raises:
        InvalidBillError: it does not follow CycloneDX's schema.
    """
    release = facts.release
    firmware = [_firmware(part) for part in release.firmware]
    libraries = [_library(part) for part in release.libraries]
    files = [_model_file(blob) for blob in facts.model_files if blob != release.model.int8]
    data = [_dataset(part, release.manifest.licences.data) for part in facts.datasets]
    depends = {
        _ARTIFACT: [part["bom-ref"] for part in (*firmware, *libraries)],
        **{part["bom-ref"]: [MODEL_REF, _KERNELS] for part in (*firmware, *libraries)},
        MODEL_REF: [part["bom-ref"] for part in (*files, *data)],
    }
    document: Json = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "edgeloop", "version": facts.environment.edgeloop}]
            },
            "component": {
                "type": "application",
                "bom-ref": _ARTIFACT,
                "name": release.project,
                "version": release.manifest.release,
                **_licensed(release.manifest.licences.code),
            },
        },
        "components": [_model(facts), *files, *data, *firmware, *libraries, _kernels(facts)],
        "dependencies": [{"ref": ref, "dependsOn": sorted(refs)} for ref, refs in depends.items()],
    }
    _require_valid(document)
    packages = _valid_packages(facts.environment.packages)
    whole = {**document, "components": [*document["components"], *packages]}
    return json.dumps(whole, separators=(",", ":")).encode()


def _require_valid(document: Json) -> None:
    if problem := _validator().validate_str(json.dumps(document)):
        raise InvalidBillError(f"the bill of materials is no CycloneDX {SPEC_VERSION}: {problem}")


@lru_cache(maxsize=1)
def _valid_packages(packages: tuple[Package, ...]) -> tuple[Json, ...]:
    """Return the components of packages. They are most of a bill and the same in every one: checked once."""
    components = tuple(_package(package) for package in packages)
    _require_valid(
        {"bomFormat": "CycloneDX", "specVersion": SPEC_VERSION, "version": 1, "components": list(components)}
    )
    return components


@lru_cache(maxsize=1)
def _validator() -> JsonStrictValidator:
    return JsonStrictValidator(SchemaVersion.V1_6)


def _model(facts: Facts) -> Json:
    release = facts.release
    manifest = release.manifest
    shape = "x".join(map(str, manifest.input.shape))
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REF,
        "name": release.project,
        "version": manifest.release,
        "description": f"{manifest.name}, int8",
        **_hashed(release.model.int8),
        **_licensed(manifest.licences.model),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "classification",
                "datasets": [{"ref": _data_ref(part)} for part in facts.datasets],
                "inputs": [{"format": f"int8 {shape}"}],
                "outputs": [{"format": f"int8 {len(manifest.labels)}"}],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {"type": name, "value": str(value), "slice": part.board}
                    for part in release.firmware
                    for name, value in (
                        ("flash_bytes", part.flash_bytes),
                        ("ram_bytes", part.ram_bytes),
                        ("arena_bytes", part.arena_bytes),
                        ("instructions", part.instructions),
                    )
                    if value is not None
                ]
            },
            "considerations": {
                "technicalLimitations": [
                    f"inputs outside {manifest.input.minimum:g} to {manifest.input.maximum:g} were never seen"
                ]
            },
        },
    }


def _model_file(blob: Blob) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"file:{blob.name}",
        "name": blob.name,
        "mime-type": blob.media_type,
        **_hashed(blob),
    }


def _data_ref(part: DatasetFacts) -> str:
    return f"file:{part.blob.name}"


def _dataset(part: DatasetFacts, licence: str | None) -> Json:
    return {
        "type": "data",
        "bom-ref": _data_ref(part),
        "name": part.name,
        "mime-type": part.blob.media_type,
        **_hashed(part.blob),
        **_licensed(licence),
        "data": [
            {
                "type": "dataset",
                "name": part.name,
                "contents": {
                    "properties": [
                        {"name": "edgeloop:role", "value": part.role},
                        {"name": "edgeloop:rows", "value": str(part.rows)},
                        {"name": "edgeloop:groups", "value": str(part.groups)},
                    ]
                },
            }
        ],
    }


def _firmware(part: Firmware) -> Json:
    return {
        "type": "firmware",
        "bom-ref": f"file:{part.image.name}",
        "name": part.board,
        "version": part.version,
        **_hashed(part.image),
        "properties": [{"name": "edgeloop:toolchain", "value": part.toolchain}],
    }


def _library(part: Library) -> Json:
    return {
        "type": "library",
        "bom-ref": f"file:{part.archive.name}",
        "name": f"{part.board} ({part.kind})",
        **_hashed(part.archive),
        "properties": [{"name": "edgeloop:target", "value": part.target}],
    }


def _kernels(facts: Facts) -> Json:
    return {
        "type": "library",
        "bom-ref": _KERNELS,
        "name": _KERNELS,
        "version": facts.environment.edgeloop,
        "description": "Kernels, platform code and application that every firmware is linked with",
        **_licensed("Apache-2.0"),
    }


def _package(package: Package) -> Json:
    return {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        **_licensed(package.licence),
    }


def _hashed(blob: Blob) -> Json:
    return {"hashes": [{"alg": "SHA-256", "content": blob.digest.removeprefix("sha256:")}]}


def _licensed(expression: str | None) -> Json:
    if expression is None or expression == NOASSERTION:
        return {"properties": [_UNKNOWN]}
    return {"licenses": [{"expression": expression}]}
