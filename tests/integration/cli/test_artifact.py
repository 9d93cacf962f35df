"""`edgeloop artifact` against a real object store and real directories."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.client import Client

from edgeloop.cli import execute
from shared.artifacts.oci import ArtifactFile
from shared.bus import EmbeddedServer
from shared.store import Blobs, load_release
from tests.data.gestures.artifact import gestures_artifact, new_signer


@dataclass(frozen=True)
class Made:
    files: tuple[ArtifactFile, ...]
    key: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    signer, public = new_signer(tmp_path_factory.mktemp("keys"))
    return Made(gestures_artifact(signer), str(public))


async def keep(nc: Client, files: tuple[ArtifactFile, ...]) -> str:
    blobs = Blobs(nc.jetstream())
    for file in files:
        await blobs.put(file.data, media_type=file.media_type, name=file.name)
    return files[-1].blob.digest


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = execute(["artifact", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


async def in_thread(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Commands bring an event loop of their own."""
    import asyncio

    return await asyncio.to_thread(run, capsys, *arguments)


async def test_a_stored_artifact_is_verified_exported_and_verified_again(
    nc: Client,
    nats_server: EmbeddedServer,
    made: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digest = await keep(nc, made.files)
    bus = ("--nats-url", nats_server.url)
    code, out, _ = await in_thread(capsys, "verify", digest, "--key", made.key, "--json", *bus)
    assert (code, {check["outcome"] for check in json.loads(out)}) == (0, {"passed"})
    folder = tmp_path / "artifact"
    code, out, _ = await in_thread(capsys, "export", digest, "--out", str(folder), "--json", *bus)
    assert (code, set(json.loads(out)["files"])) == (0, {file.name for file in made.files[:-1]})
    assert run(capsys, "verify", str(folder), "--key", made.key)[0] == 0
    code, out, _ = await in_thread(capsys, "export", digest, "--out", str(folder), *bus)
    assert code == 2
    code, out, _ = await in_thread(capsys, "show", digest, "--json", *bus)
    assert json.loads(out) == json.loads(run(capsys, "show", str(folder), "--json")[1])
    assert json.loads(out)["digest"] == digest
    (folder / "MODEL_CARD.md").write_text("mine")
    code, out, _ = run(capsys, "verify", str(folder), "--key", made.key)
    assert (code, "MODEL_CARD.md" in out) == (1, True)


async def test_a_lost_blob_is_named(
    nc: Client,
    nats_server: EmbeddedServer,
    made: Made,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    lost, kept = made.files[0], made.files[1:]
    digest = await keep(nc, kept)
    bus = ("--nats-url", nats_server.url)
    code, out, _ = await in_thread(capsys, "verify", digest, "--key", made.key, "--json", *bus)
    failed = {check["name"]: check["observed"] for check in json.loads(out) if check["outcome"] != "passed"}
    assert code == 1
    assert lost.name in failed["blobs"]
    code, _, said = await in_thread(capsys, "export", digest, "--out", str(tmp_path / "x"), *bus)
    assert (code, lost.blob.digest in said, (tmp_path / "x").exists()) == (2, True, False)


async def test_the_release_is_the_manifests_config_and_an_older_release_its_own(nc: Client, made: Made) -> None:
    digest, index = await keep(nc, made.files), made.files[-2]
    blobs = Blobs(nc.jetstream())
    assert await load_release(blobs, digest) == await load_release(blobs, index.blob.digest)


def test_without_a_key_it_says_how_to_name_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run(capsys, "verify", str(tmp_path), "--data", str(tmp_path / "none"))
    assert (code, "--key PUBLIC.pem" in said) == (2, True)
    (tmp_path / "text").write_text("no key")
    assert run(capsys, "verify", str(tmp_path), "--key", str(tmp_path / "text"))[0] == 2


def test_what_is_neither_a_digest_nor_a_directory_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("verify", "sha256:1"), ("show", "nowhere"), ("export", "nowhere", "--out", "x")):
        code, _, said = run(capsys, *command)
        assert (code, "edgeloop artifact list" in said) == (2, True)


def test_skopeo_copies_an_artifact_and_the_copy_is_verified(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is missing: apt install skopeo")
    from shared.artifacts.layout import write_layout

    blobs = {file.blob.digest: file.data for file in made.files}
    write_layout(tmp_path / "artifact", made.files[-1].data, blobs.__getitem__)
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{tmp_path}/artifact"], check=True, capture_output=True
    ).stdout
    assert raw == made.files[-1].data
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{tmp_path}/artifact", f"oci:{tmp_path}/copy"]
    subprocess.run(copy, check=True, capture_output=True)
    code, out, _ = run(capsys, "verify", str(tmp_path / "copy"), "--key", made.key, "--json")
    found = {check["name"]: check for check in json.loads(out)}
    assert (code, found["manifest"]["observed"]) == (0, made.files[-1].blob.digest)
    assert found["layout"]["observed"] == "written by another tool"
