"""What the builder adds to a release: the same every time, valid by its schema, free of secrets."""

import base64
import io
import json
import os
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.packaging.environment import current_environment, installed_packages
from services.artifact_builder.packaging.model_card import _plain
from services.artifact_builder.packaging.snapshot import snapshot_of
from services.artifact_builder.signers import signer_for
from shared.artifacts.dsse import EnvelopeError, enveloped, opened, pre_authentication_encoding
from shared.artifacts.oci import ArtifactFile, manifest_of
from shared.releases.licences import licence_problem
from tests.data.gestures.artifact import gestures_artifact, new_signer


def tree(folder: Path) -> Path:
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "b").mkdir()
    (folder / "b" / "run.sh").write_text("echo")
    (folder / "b" / "run.sh").chmod(0o755)
    (folder / "edgeloop.yaml").write_text("version: 1")
    (folder / "link").symlink_to("b")
    (folder / ("long" * 40)).write_text("x")
    return folder


def test_a_snapshot_holds_files_modes_and_links_and_nothing_of_git(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(snapshot_of(tree(tmp_path / "one")))) as archive:
        found = {member.name: member for member in archive}
    assert list(found) == ["b/run.sh", "edgeloop.yaml", "link", "long" * 40]
    assert (found["b/run.sh"].mode, found["edgeloop.yaml"].mode, found["link"].linkname) == (0o755, 0o644, "b")


def test_equal_trees_give_equal_snapshots_whenever_and_wherever_they_were_made(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "one"), tree(tmp_path / "elsewhere")
    os.utime(second / "edgeloop.yaml", (1, 1))
    (second / "b" / "run.sh").chmod(0o700)
    assert snapshot_of(first) == snapshot_of(second)
    (second / "edgeloop.yaml").write_text("version: 2")
    assert snapshot_of(first) != snapshot_of(second)


def test_the_environment_has_every_package_with_its_files_and_a_valid_licence() -> None:
    packages = {package.name: package for package in installed_packages()}
    assert packages["numpy"].version == metadata.version("numpy")
    assert packages["numpy"].files is not None
    assert "edgeloop" not in packages
    assert not [package for package in packages.values() if licence_problem(package.licence)]
    assert current_environment("zig") == current_environment("zig")


def test_the_bill_of_the_whole_environment_follows_the_schema(tmp_path: Path) -> None:
    signer, _ = new_signer(tmp_path)
    files = {file.name: file for file in gestures_artifact(signer, environment=None)}
    text = files["bom.cdx.json"].data.decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    refs = [part["bom-ref"] for part in json.loads(text)["components"]]
    assert len(refs) == len(set(refs)) > 50


def test_an_artifact_is_the_same_bytes_twice_and_another_with_another_environment(tmp_path: Path) -> None:
    signer, _ = new_signer(tmp_path)
    first = gestures_artifact(signer)[-1].data
    assert gestures_artifact(signer)[-1].data == first
    assert gestures_artifact(signer, environment=None)[-1].data != first


def test_no_file_of_an_artifact_holds_the_private_key(tmp_path: Path) -> None:
    signer, public = new_signer(tmp_path)
    pem = public.with_name("signing.pem").read_bytes()
    raw = load_pem_private_key(pem, None).private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    secrets = (raw, raw.hex().encode(), base64.b64encode(raw), pem.splitlines()[1])
    for file in gestures_artifact(signer):
        assert not any(secret in file.data for secret in secrets), file.name


@given(st.text())
def test_text_of_a_manifest_stays_in_its_cell_of_the_card(text: str) -> None:
    shown = _plain(text)
    assert "\n" not in shown
    assert "|" not in shown.replace("\\|", "")
    assert "<" not in shown.replace("\\<", "")


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "./a", "a//b", "a/", "blobs/x", "index.json", "a\n", "a\\b"]
)
def test_a_title_that_leaves_the_directory_or_hides_the_layout_is_refused(name: str) -> None:
    index = ArtifactFile(b"{}", "application/vnd.edgeloop.release.v1+json", "release.json")
    with pytest.raises(ValueError, match="no plain relative path"):
        manifest_of(index, [ArtifactFile(b"", "x/y", name)], {})


def test_two_files_of_one_title_or_a_file_that_is_a_folder_are_refused() -> None:
    index = ArtifactFile(b"{}", "application/vnd.edgeloop.release.v1+json", "release.json")
    for names in (("a", "a"), ("a", "a/b"), ("release.json",)):
        with pytest.raises(ValueError, match="title"):
            manifest_of(index, [ArtifactFile(b"", "x/y", name) for name in names], {})


def test_an_envelope_says_what_was_signed_by_the_specifications_example() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_securesystemslib_verifies_our_envelopes(tmp_path: Path) -> None:
    from securesystemslib import dsse
    from securesystemslib.signer._key import SSlibKey

    signer, _ = new_signer(tmp_path)
    envelope = enveloped(b"{}", key_id=signer.public_key.key_id, sign=signer.sign)
    key = SSlibKey.from_crypto(signer.public_key.raw, signer.public_key.key_id)
    assert list(dsse.Envelope.from_dict(json.loads(envelope)).verify([key], 1)) == [key.keyid]


def test_an_envelope_of_another_payload_type_or_without_a_signature_is_refused(tmp_path: Path) -> None:
    signer, _ = new_signer(tmp_path)
    document = json.loads(enveloped(b"{}", key_id=signer.public_key.key_id, sign=signer.sign))
    assert opened(json.dumps(document).encode(), [signer.public_key]) == (b"{}", signer.public_key)
    changes: list[dict[str, object]] = [{"payloadType": "text/plain"}, {"signatures": []}]
    for change in (*changes, {"payload": "??"}, {"payload": "e30x"}):
        with pytest.raises(EnvelopeError):
            opened(json.dumps(document | change).encode(), [signer.public_key])


def test_a_setting_that_names_a_file_twice_gives_one_key(tmp_path: Path) -> None:
    _, public = new_signer(tmp_path)
    path = public.with_name("signing.pem")
    assert signer_for(path).public_key.key_id == signer_for(str(path)).public_key.key_id
