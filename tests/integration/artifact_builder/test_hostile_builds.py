"""Hostile repositories on their way through the whole builder: an event says what was found, the next build is well."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from services.artifact_builder import store as builds
from services.artifact_builder.caching.blobs import BlobCache
from services.artifact_builder.caching.eviction import Bounds
from services.artifact_builder.handlers import Deps, build_commit
from services.artifact_builder.sandbox.engines import STRONG, Engine, Mode
from services.artifact_builder.sandbox.opening import SandboxOptions
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import workspace
from shared.bus import Retry
from shared.events.artifact import BuildStage
from shared.store import Blobs, Store
from tests.integration.artifact_builder.sandboxes import IMAGE, require
from tests.integration.artifact_builder.test_failed_builds import TOOLBOX, failure, pushed

FILLS = """
import os, time
for n in range(9): open(os.environ["TMPDIR"] + f"/{{n}}", "wb").write(bytes(9_000_000))
time.sleep(30)
"""


@pytest.fixture(params=STRONG)
def deps(request: pytest.FixtureRequest, nc: Client, tools: Tools, tmp_path: Path) -> Deps:
    """Return a builder that trusts nobody and has a sandbox."""
    engine: Engine = request.param
    require(engine)
    options = SandboxOptions(Mode(engine.value), os.environ.get(IMAGE, ""), hidden=(Path(tools.signing_key),))
    strict = dataclasses.replace(tools, sandbox=options, step_disk_bytes=20_000_000, step_processes=20)
    store, blobs = Store(f"sqlite:///{tmp_path}/builder.db", builds.METADATA), Blobs(nc.jetstream())
    return Deps(blobs, store, strict, TOOLBOX, tmp_path / "work", BlobCache.beside(blobs, store, Bounds()))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("open('/etc/shadow').read()", ": '/etc/shadow'"),
        ("open({key!r}).read()", "FileNotFoundError"),
        ("import socket; socket.create_connection(('192.0.2.1', 80), 3)", "Network is unreachable"),
        ("open('edgeloop.yaml', 'w').write('mine')", "the checkout and the system are read-only"),
        ("import os, time; [os.fork() for _ in range(6)]; time.sleep(30)", "started more than 20 processes"),
        (
            FILLS,
            "MiB on the disk, and was ended; allowed are 19 MiB",
        ),
        ("while True: pass", "did not end within 5 s"),
    ],
)
async def test_a_hostile_step_is_a_failed_build_and_the_next_one_is_well(
    code: str, says: str, make_repository: Any, deps: Deps
) -> None:
    repository = make_repository({"prepare.py": code.format(key=str(deps.tools.signing_key))})
    failed = await failure(pushed(*repository), deps)
    assert failed.stage is BuildStage.DATA
    assert says in "\n".join((failed.reason, *failed.last_lines)), failed
    again = await failure(pushed(*make_repository({"prepare.py": "raise SystemExit('as always')"})), deps)
    assert again.last_lines == ("as always",)


async def test_a_manifest_that_is_a_link_to_a_secret_is_never_read(make_repository: Any, deps: Deps) -> None:
    address, _ = make_repository({})
    manifest = Path(address.removeprefix("file://")) / "edgeloop.yaml"
    manifest.unlink()
    manifest.symlink_to(deps.tools.signing_key)
    failed = await failure(pushed(*make_repository_again(manifest.parent)), deps)
    assert (failed.stage, "edgeloop.yaml is a symbolic link" in failed.reason) == (BuildStage.CLONE, True)
    assert "PRIVATE KEY" not in failed.model_dump_json()


def make_repository_again(folder: Path) -> tuple[str, str]:
    from tests.integration.artifact_builder.conftest import commit_all

    return folder.as_uri(), commit_all(folder)


async def test_without_a_sandbox_a_repository_that_is_not_trusted_waits_and_says_what_is_missing(
    make_repository: Any, deps: Deps
) -> None:
    options = SandboxOptions(mode=Mode.CONTAINER)
    without = dataclasses.replace(deps, tools=dataclasses.replace(deps.tools, sandbox=options))
    with pytest.raises(Retry, match=r"cannot be built: EDGELOOP_SANDBOX=container .*EDGELOOP_SANDBOX_IMAGE"):
        await build_commit.call(pushed(*make_repository({})), without)


def test_folders_that_a_step_shut_are_removed_as_well(tmp_path: Path) -> None:
    with workspace(tmp_path) as folder:
        (folder / "shut" / "inner").mkdir(parents=True)
        (folder / "shut" / "inner").chmod(0)
        (folder / "shut").chmod(0)
    assert not list(tmp_path.iterdir())
