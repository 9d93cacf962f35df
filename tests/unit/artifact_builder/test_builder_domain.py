import io
import json
import zipfile

import pytest

from services.artifact_builder.domain import build_key, firmware_version, over_budget
from services.artifact_builder.inputs.canonical import canonical_keras, zipped
from services.artifact_builder.source import scheme_of, without_secrets
from shared.events import Trigger
from shared.releases.manifest import Budget, Manifest
from shared.releases.manifest_loader import parse_manifest


def manifest() -> Manifest:
    return parse_manifest("""
version: 1
name: Gestures
labels: [up, down]
input: {shape: [8, 1], minimum: -1, maximum: 1}
data: {prepare: {command: [python, p.py]}, train: {path: train.npz}, test: {path: test.npz}}
model: {train: {command: [python, t.py]}}
boards: [cortex-m4]
gates: {accuracy: 0.5}
""")


def keras_file(date: str, address: int) -> bytes:
    buffer = io.BytesIO()
    dtype = {"class_name": "DTypePolicy", "shared_object_id": address}
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": date}))
        archive.writestr("config.json", json.dumps({"dtype": dtype, "layers": [{"dtype": dtype}]}))
        archive.writestr("model.weights.h5", b"weights")
    return buffer.getvalue()


def key(**changes: object) -> str:
    arguments = {
        "project": "p",
        "repository": "r",
        "commit": "c",
        "trigger": Trigger.PUSH,
        "production": (),
        "toolbox": "t",
    }
    return build_key(**{**arguments, **changes})  # type: ignore[arg-type]


def budgeted(**budget: int) -> Manifest:
    return manifest().model_copy(update={"budgets": {"cortex-m4": Budget(**budget)}})


def test_the_build_number_is_the_models_first_32_bits() -> None:
    assert firmware_version("1.2.3", "sha256:0000000a" + 56 * "f") == "1.2.3+10"


def test_a_firmware_within_its_budget_is_fine() -> None:
    assert over_budget(budgeted(flash_bytes=100, ram_bytes=10), "cortex-m4", 100, 10) == []
    assert over_budget(manifest(), "cortex-m4", 10**9, 10**9) == []


def test_each_budget_that_is_exceeded_is_named_with_both_numbers() -> None:
    flash, ram = over_budget(budgeted(flash_bytes=1000, ram_bytes=10), "cortex-m4", 2000, 11)
    assert "2,000 bytes of flash; allowed are 1,000 (budgets.cortex-m4.flash_bytes)" in flash
    assert "11 bytes of ram; allowed are 10 (budgets.cortex-m4.ram_bytes)" in ram


@pytest.mark.parametrize(
    "change",
    [
        {"project": "q"},
        {"repository": "s"},
        {"commit": "d"},
        {"trigger": Trigger.DRIFT},
        {"production": ("sha256:1",)},
        {"toolbox": "u"},
    ],
)
def test_the_key_changes_with_everything_that_goes_in(change: dict[str, object]) -> None:
    assert key(**change) != key()
    assert key() == key()


def test_keras_files_that_differ_in_dates_and_addresses_become_equal() -> None:
    first = canonical_keras(keras_file("2026-01-01@10:00:00", 140400307390352))
    assert first == canonical_keras(keras_file("2027-02-02@11:11:11", 139999999999999))
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert json.loads(archive.read("config.json"))["layers"][0]["dtype"]["shared_object_id"] == 1
        assert archive.read("model.weights.h5") == b"weights"


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n", zipped({"a": b"b"})])
def test_what_is_no_keras_file_says_how_to_write_one(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"model\.save"):
        canonical_keras(data)


def test_a_zip_does_not_depend_on_the_order_of_its_files() -> None:
    assert zipped({"a": b"1", "b": b"2"}) == zipped({"b": b"2", "a": b"1"})


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://forge.example/a/b.git", "https"),
        ("ssh://git@forge.example/a/b", "ssh"),
        ("git@forge.example:a/b.git", "ssh"),
        ("file:///srv/a.git", "file"),
        ("/srv/a.git", ""),
        ("--upload-pack=evil", ""),
        ("ext::sh -c evil", "ext"),
    ],
)
def test_the_scheme_of_an_address_is_found_in_both_notations(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme


def test_tokens_in_addresses_are_not_shown() -> None:
    assert without_secrets("https://me:token@forge.example:8443/a") == "https://forge.example:8443/a"
    assert without_secrets("git@forge.example:a/b.git") == "git@forge.example:a/b.git"
