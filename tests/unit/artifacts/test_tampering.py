"""Whatever happens to an exported artifact, verification notices."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.artifacts.keys import PublicKey
from shared.artifacts.layout import write_layout
from shared.artifacts.oci import ArtifactFile, ArtifactType, blob_path, layout_index, manifest_of
from shared.artifacts.verify import CHECKS, verify, verify_directory
from shared.events import Check, CheckOutcome
from tests.data.gestures.artifact import gestures_artifact, new_signer

SMALL_BYTES = 64
Keys = tuple[PublicKey, ...]


def failures(checks: tuple[Check, ...]) -> dict[str, str]:
    return {check.name: check.observed for check in checks if check.outcome is not CheckOutcome.PASSED}


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def flips(size: int) -> Iterator[int]:
    """Yield a bit of every byte of a small file, and of some bytes of a large one: its ends and in between."""
    step = 1 if size <= SMALL_BYTES else size // 5
    yield from (byte * 8 + byte % 8 for byte in range(0, size, step))
    yield size * 8 - 1


def test_an_exported_artifact_passes_every_check(exported: Path, trusted: Keys) -> None:
    checks = verify_directory(exported, trusted)
    assert failures(checks) == {}
    assert [check.name for check in checks] == ["layout", "files", "titled-files", "manifest", *CHECKS]


def test_a_flipped_bit_in_any_file_is_noticed(directory: Path, trusted: Keys) -> None:
    for name in names(directory):
        file = directory / name
        data = file.read_bytes()
        for bit in flips(len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            assert failures(verify_directory(directory, trusted)), f"{name}: bit {bit}"
        file.write_bytes(data)
    assert not failures(verify_directory(directory, trusted))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_random_flipped_bit_is_noticed(exported: Path, trusted: Keys, data: st.DataObject) -> None:
    file = exported / data.draw(st.sampled_from(names(exported)))
    whole = file.read_bytes()
    damaged = bytearray(whole)
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    file.write_bytes(damaged)
    try:
        assert failures(verify_directory(exported, trusted))
    finally:
        file.write_bytes(whole)


def test_every_missing_cut_or_longer_file_is_noticed(directory: Path, trusted: Keys) -> None:
    for name in names(directory):
        file = directory / name
        data = file.read_bytes()
        file.unlink()
        assert failures(verify_directory(directory, trusted)), f"{name} deleted"
        for changed in (data[:-1], data + b"\n", b""):
            file.write_bytes(changed)
            assert failures(verify_directory(directory, trusted)), f"{name} of {len(changed)} bytes"
        file.write_bytes(data)


@pytest.mark.parametrize("name", ["extra.txt", "blobs/sha256/" + "0" * 64, "model/more/x", ".hidden"])
def test_a_file_that_belongs_to_no_layer_is_named(directory: Path, trusted: Keys, name: str) -> None:
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text("more")
    assert name in failures(verify_directory(directory, trusted))["files"]


def test_an_empty_folder_is_named(directory: Path, trusted: Keys) -> None:
    (directory / "empty").mkdir()
    assert "empty is an unknown folder" in failures(verify_directory(directory, trusted))["files"]


def test_two_swapped_files_are_noticed(directory: Path, trusted: Keys) -> None:
    first, second = directory / "firmware" / "cortex-m4.img", directory / "firmware" / "cortex-m7.img"
    first.rename(directory / "x")
    second.rename(first)
    (directory / "x").rename(second)
    assert "firmware/cortex-m4.img" in failures(verify_directory(directory, trusted))["titled-files"]


def test_a_link_is_noticed_even_when_what_it_points_at_is_right(directory: Path, trusted: Keys, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for name in ("index.json", "release.json", "blobs", "model"):
        (directory / name).rename(outside)
        (directory / name).symlink_to(outside)
        assert failures(verify_directory(directory, trusted)), name
        (directory / name).unlink()
        outside.rename(directory / name)


def test_an_artifact_of_another_key_is_refused_and_both_keys_are_named(trusted: Keys, tmp_path: Path) -> None:
    other, _ = new_signer(tmp_path)
    files = gestures_artifact(other)
    found = failures(verify(files[-1].data, lambda file: by_digest(files)[file.digest], trusted))
    said = found["signature"]
    assert f"signed by key {other.public_key.key_id}; trusted are {trusted[0].key_id}" in said
    assert "no trusted key signed the image" in found["images"]
    assert "not looked at" in found["provenance"]


def by_digest(files: tuple[ArtifactFile, ...]) -> dict[str, bytes]:
    return {file.blob.digest: file.data for file in files}


def test_whoever_replaces_a_file_and_corrects_every_digest_still_lacks_the_key(
    files: tuple[ArtifactFile, ...], trusted: Keys, tmp_path: Path
) -> None:
    *layers, index, manifest = files
    forged = [
        ArtifactFile(b"other", layer.media_type, layer.name, layer.annotations)
        if layer.name.endswith(".elf")
        else layer
        for layer in layers
    ]
    annotations = json.loads(manifest.data)["annotations"]
    whole = manifest_of(index, forged, annotations).to_bytes()
    write_layout(tmp_path / "forged", whole, by_digest((index, *forged)).__getitem__)
    found = failures(verify_directory(tmp_path / "forged", trusted))
    assert found.keys() == {"release-index", "subjects", "elf"}
    assert "firmware/cortex-m4.elf" in found["subjects"]


def test_an_index_that_names_two_manifests_is_refused(directory: Path, trusted: Keys) -> None:
    document = json.loads((directory / "index.json").read_bytes())
    document["manifests"] *= 2
    (directory / "index.json").write_text(json.dumps(document))
    assert "it must name one" in failures(verify_directory(directory, trusted))["layout"]


def test_another_manifest_is_not_the_one_that_was_asked_for(exported: Path, trusted: Keys) -> None:
    asked = "sha256:" + "0" * 64
    assert failures(verify_directory(exported, trusted, digest=asked)).keys() == {"manifest"}


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[]", b"\xff", b'{"schemaVersion": 2}', b"[" * 100_000])
def test_what_is_no_manifest_is_refused(exported: Path, trusted: Keys, tmp_path: Path, manifest: bytes) -> None:
    shutil.copytree(exported, tmp_path / "other")
    (tmp_path / "other" / "index.json").write_bytes(layout_index(manifest, ArtifactType.RELEASE))
    digest = json.loads(layout_index(manifest, ArtifactType.RELEASE))["manifests"][0]["digest"]
    (tmp_path / "other" / blob_path(digest)).write_bytes(manifest)
    assert failures(verify_directory(tmp_path / "other", trusted)).keys() == {"layout"}
    assert failures(verify(manifest, lambda _file: b"", trusted)).keys() == {"manifest"}


def test_a_directory_that_is_none_or_empty_is_refused(trusted: Keys, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert "oci-layout: missing" in failures(verify_directory(folder, trusted))["layout"]
