"""An artifact that a trusted key signed, and that contradicts itself: each check finds its own contradiction."""

import base64
import dataclasses
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.artifact_builder.signers import Signer
from shared.artifacts.dsse import enveloped
from shared.artifacts.keys import PublicKey
from shared.artifacts.oci import ArtifactFile, MediaType, manifest_of
from shared.artifacts.verify import verify
from shared.events import CheckOutcome
from tests.data.elf import elf_of
from tests.data.gestures.artifact import tar

Edit = Callable[[dict[str, Any]], None]
CARD, BOM, PROVENANCE = "MODEL_CARD.md", "bom.cdx.json", "provenance.dsse.json"


def statement_of(envelope: bytes) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(json.loads(envelope)["payload"])))


class Forger:
    """Has the key, replaces files, and corrects all that follows from it."""

    def __init__(self, files: tuple[ArtifactFile, ...], signer: Signer) -> None:
        *layers, index, manifest = files
        self.files = {file.name: file for file in (*layers, index)}
        self.annotations = json.loads(manifest.data)["annotations"]
        self.signer = signer

    def replace(self, name: str, data: bytes) -> None:
        self.files[name] = dataclasses.replace(self.files[name], data=data)

    def edit(self, name: str, change: Edit) -> None:
        document = json.loads(self.files[name].data)
        change(document)
        self.replace(name, json.dumps(document).encode())

    def failures(self, trusted: tuple[PublicKey, ...], change: Edit = lambda _statement: None) -> dict[str, str]:
        """Sign, and return the failed checks; `change` is done to the statement."""
        statement = statement_of(self.files[PROVENANCE].data)
        statement["subject"] = [
            {"name": file.name, "digest": {"sha256": file.blob.digest.removeprefix("sha256:")}}
            for file in self.files.values()
            if file.name != PROVENANCE
        ]
        change(statement)
        key = self.signer.public_key.key_id
        self.replace(PROVENANCE, enveloped(json.dumps(statement).encode(), key_id=key, sign=self.signer.sign))
        layers = [file for file in self.files.values() if file.media_type != MediaType.RELEASE]
        manifest = manifest_of(self.files["release.json"], layers, self.annotations).to_bytes()
        blobs = {file.blob.digest: file.data for file in self.files.values()}
        checks = verify(manifest, lambda file: blobs[file.digest], trusted)
        return {check.name: check.observed for check in checks if check.outcome is not CheckOutcome.PASSED}


@pytest.fixture
def forger(files: tuple[ArtifactFile, ...], signer: Signer) -> Forger:
    return Forger(files, signer)


def test_a_forger_who_changes_nothing_changes_nothing(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    assert forger.failures(trusted) == {}


def _firmware(**changes: object) -> Edit:
    return lambda index: index["firmware"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (_firmware(version="1.2.4+1"), "images", "cortex-m4: version of the image is 1.2.3+"),
        (_firmware(image_hash="00" * 32), "images", "cortex-m4: image_hash of the image is"),
        (_firmware(board="cortex-m33"), "images", "cortex-m33: board of the image is cortex-m4"),
        (_firmware(security_counter=1), "images", "security_counter of the image is 16908291, the index says 1"),
        (_firmware(flash_bytes=1), "model-card", "the row of cortex-m4 is"),
        (_firmware(arena_bytes=4_001), "model-card", "the row of cortex-m4 is"),
        (_firmware(instructions=None), "model-card", "the row of cortex-m4 is"),
        (lambda index: index["firmware"].pop(), "images", "images that the index does not name"),
        (
            lambda index: index["model"]["int8"].update(digest="sha256:" + "1" * 64),
            "release-index",
            "which is no layer",
        ),
        (lambda index: index["datasets"]["test"].update(name="data/x.npz"), "release-index", "which is no layer"),
        (lambda index: index.update(commit="d" * 40), "provenance", "commit: the provenance says ccc"),
        (lambda index: index.update(repository="file:///x"), "provenance", "repository: the provenance says"),
        (lambda index: index["manifest"]["licences"].update(code="Apache 2"), "licences", "did you mean Apache-2.0?"),
        (lambda index: index["manifest"].update(preprocessing=None), "snapshot", "annotation dev.edgeloop.preproc"),
        (lambda index: index.pop("model"), "release-index", "model: Field required"),
    ],
)
def test_an_index_that_says_otherwise_is_refused(
    forger: Forger, trusted: tuple[PublicKey, ...], change: Edit, check: str, said: str
) -> None:
    forger.edit("release.json", change)
    assert said in forger.failures(trusted)[check]


def _component(ref: str, **changes: object) -> Edit:
    def change(bill: dict[str, Any]) -> None:
        next(part for part in bill["components"] if part["bom-ref"] == ref).update(changes)

    return change


def _without(ref: str) -> Edit:
    return lambda bill: bill.update(components=[part for part in bill["components"] if part["bom-ref"] != ref])


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (_without("model"), "bill-of-materials", "no component has the digest of model/model-int8.tflite"),
        (_without("file:data/production-0.npz"), "bill-of-materials", "data/production-0.npz"),
        (_without("file:firmware/cortex-m7.img"), "bill-of-materials", "firmware/cortex-m7.img"),
        (_without("pkg:pypi/numpy@2.4.0"), "bill-of-materials", "no component is numpy"),
        (_component("model", modelCard=None), "bill-of-materials", "no machine-learning-model with a model card"),
        (_component("model", licenses=[{"expression": "Mine"}]), "licences", "SPDX lists no licence Mine"),
        (lambda bill: bill.update(specVersion="1.4"), "bill-of-materials", "CycloneDX 1.4"),
        (lambda bill: bill.update(components=[]), "bill-of-materials", "components"),
    ],
)
def test_a_bill_that_leaves_something_out_is_refused(
    forger: Forger, trusted: tuple[PublicKey, ...], change: Edit, check: str, said: str
) -> None:
    forger.edit(BOM, change)
    assert said in forger.failures(trusted)[check]


def _definition(statement: dict[str, Any]) -> Any:
    return statement["predicate"]["buildDefinition"]


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (lambda said: said["subject"].pop(), "subjects", "subjects and files differ"),
        (lambda said: said["subject"].append(said["subject"][0]), "subjects", "a subject twice"),
        (lambda said: said["subject"][0]["digest"].update(sha512="0" * 128), "subjects", "subjects and files differ"),
        (lambda said: _definition(said)["externalParameters"].update(commit="e" * 40), "provenance", "commit"),
        (
            lambda said: _definition(said)["externalParameters"]["manifest"].update(digest="sha256:" + "2" * 64),
            "provenance",
            "digest of edgeloop.yaml",
        ),
        (lambda said: _definition(said).update(resolvedDependencies=[]), "provenance", "resolvedDependencies"),
        (lambda said: _definition(said)["resolvedDependencies"].pop(0), "provenance", "no resolved dependency has"),
        (lambda said: _definition(said).update(buildType="https://x"), "provenance", "buildType"),
        (lambda said: said["predicate"].pop("runDetails"), "provenance", "runDetails"),
        (lambda said: said.update(predicateType="https://slsa.dev/provenance/v0.2"), "provenance", "predicateType"),
        (
            lambda said: said["predicate"]["runDetails"]["builder"].update(id="urn:somebody-else"),
            "provenance",
            "builder: the provenance says urn:somebody-else",
        ),
    ],
)
def test_a_provenance_that_says_otherwise_is_refused(
    forger: Forger, trusted: tuple[PublicKey, ...], change: Edit, check: str, said: str
) -> None:
    assert said in forger.failures(trusted, change)[check]


def test_a_snapshot_with_another_manifest_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    forger.replace("code/repository.tar", tar({"edgeloop.yaml": b"version: 2\n"}))
    assert "digest of edgeloop.yaml" in forger.failures(trusted)["provenance"]


@pytest.mark.parametrize("snapshot", [b"no tar", tar({"other": b""}), b""])
def test_a_snapshot_without_the_manifest_is_refused(
    forger: Forger, trusted: tuple[PublicKey, ...], snapshot: bytes
) -> None:
    forger.replace("code/repository.tar", snapshot)
    assert "snapshot" in forger.failures(trusted)


def test_a_card_with_another_figure_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    forger.replace(CARD, forger.files[CARD].data.replace(b"| 30,000 |", b"| 29,000 |"))
    assert "29,000" in forger.failures(trusted)["model-card"]


def test_a_card_that_is_no_text_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    forger.replace(CARD, b"\xff")
    assert "model-card" in forger.failures(trusted)


def test_requirements_that_are_not_the_environment_are_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    forger.replace("environment/requirements.txt", b"numpy==1\n")
    assert "lists other packages" in forger.failures(trusted)["environment"]


def test_a_missing_document_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    for name in (CARD, BOM, "environment/environment.json", "code/repository.tar"):
        kept = forger.files.pop(name)
        assert any(f"0 layers of {kept.media_type}" in said for said in forger.failures(trusted).values()), name
        forger.files[name] = kept


def test_unsigned_bytes_behind_an_image_are_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    image = forger.files["firmware/cortex-m4.img"]
    forger.replace(image.name, image.data + b"more")
    changed = forger.files[image.name].blob
    forger.edit("release.json", lambda index: index["firmware"][0].update(image=changed.model_dump(mode="json")))
    assert "size_bytes of the image is" in forger.failures(trusted)["images"]


def test_an_elf_of_another_board_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    elf = forger.files["firmware/cortex-m7.elf"]
    forger.replace(elf.name, elf_of([(0x10200, b"other")]))
    changed = forger.files[elf.name].blob
    forger.edit("release.json", lambda index: index["firmware"][1].update(elf=changed.model_dump(mode="json")))
    assert forger.failures(trusted) == {
        "elf": "cortex-m7: firmware/cortex-m7.elf is not what the image was made of: it loads 5 bytes from 0x00010200 "
        "on, the image has 512"
    }


def test_an_elf_that_is_no_layer_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    del forger.files["firmware/cortex-m7.elf"]
    assert "no layer is the ELF file for cortex-m7" in forger.failures(trusted)["elf"]


DOCUMENTS = (
    CARD,
    BOM,
    "release.json",
    "environment/environment.json",
    "code/repository.tar",
    "firmware/cortex-m7.img",
    "firmware/cortex-m7.elf",
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_document_is_judged_and_never_ends_the_verification(
    forger: Forger, trusted: tuple[PublicKey, ...], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(DOCUMENTS))
    whole = forger.files[name]
    at, size = data.draw(st.integers(0, len(whole.data))), data.draw(st.integers(0, 40))
    forger.replace(name, whole.data[:at] + data.draw(st.binary(max_size=40)) + whole.data[at + size :])
    try:
        forger.failures(trusted)
    finally:
        forger.files[name] = whole


def test_a_sparse_file_that_claims_to_be_huge_is_refused_without_being_read(
    forger: Forger, trusted: tuple[PublicKey, ...]
) -> None:
    member = tarfile.TarInfo("edgeloop.yaml")
    member.size = 2**40
    forger.replace("code/repository.tar", member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "claims 1099511627776 bytes" in forger.failures(trusted)["snapshot"]


def test_a_deeply_nested_annotation_is_refused(forger: Forger, trusted: tuple[PublicKey, ...]) -> None:
    deep = {"dev.edgeloop.tests": "[" * 100_000}
    snapshot = forger.files["code/repository.tar"]
    forger.files[snapshot.name] = dataclasses.replace(snapshot, annotations={**snapshot.annotations, **deep})
    assert "snapshot" in forger.failures(trusted)
