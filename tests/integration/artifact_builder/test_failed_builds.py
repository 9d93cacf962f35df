import asyncio
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client

from services.artifact_builder import store as builds
from services.artifact_builder.caching.blobs import BlobCache
from services.artifact_builder.caching.eviction import Bounds
from services.artifact_builder.domain import build_key
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.handlers import Deps, build_commit, build_with_production_data
from services.artifact_builder.sandbox.engines import Engine
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import remove_stale, workspace
from shared.bus import Reject, Retry, Unavailable
from shared.events import Event, Payload, Trigger, envelop
from shared.events.artifact import BuildFailed, BuildStage
from shared.events.drift import RetrainingRequested
from shared.events.source import Forge, SourcePushed
from shared.store import Blobs, Store
from tests.support import eventually, has_ended, text_of

TOOLBOX = Toolbox(environment="e", compiler="c", public_key="k")
PREPARE = """
import os
import numpy as np
for name in ("train", "test"):
    rows = dict({x}=np.zeros((4, {length}, 1), np.float32), y=np.array([0, 1, 0, 1]), group=np.arange(4))
    np.savez(os.path.join(os.environ["EDGELOOP_OUTPUT_DIR"], name + ".npz"), **rows)
"""


@pytest.fixture
def deps(nc: Client, tools: Tools, tmp_path: Path) -> Deps:
    store, blobs = Store(f"sqlite:///{tmp_path}/builder.db", builds.METADATA), Blobs(nc.jetstream())
    return Deps(blobs, store, tools, TOOLBOX, tmp_path / "work", BlobCache.beside(blobs, store, Bounds()))


def event_of(payload: Payload) -> Event[Any]:
    now = datetime.now(UTC)
    return envelop(payload, event_id=uuid4(), source="test", time=now, correlation_id=uuid4())


def pushed(address: str, commit: str) -> Event[Any]:
    return event_of(
        SourcePushed(
            project="gestures",
            repository=address,
            ref="refs/heads/main",
            commit=commit,
            forge=Forge.GITEA,
            delivery="1",
        )
    )


async def failure(event: Event[Any], deps: Deps) -> BuildFailed:
    [failed] = await build_commit.call(event, deps)
    assert isinstance(failed, BuildFailed)
    assert not list(deps.work.iterdir()), "nothing is left of a failed build"
    return failed


@pytest.mark.parametrize(
    ("files", "stage", "says"),
    [
        ({"edgeloop.yaml": "version: 1\n"}, BuildStage.MANIFEST, "edgeloop.yaml:1: labels: "),
        ({"prepare.py": "raise SystemExit('no recordings')"}, BuildStage.DATA, "ended with exit code 1"),
        ({"prepare.py": "pass"}, BuildStage.DATA, "wrote no train.npz"),
        ({"prepare.py": PREPARE.format(x="x", length=9)}, BuildStage.DATA, "windows of (9, 1)"),
        ({"prepare.py": PREPARE.format(x="z", length=8)}, BuildStage.DATA, "array 'x' is missing"),
        ({"train.py": "import nothing"}, BuildStage.TRAIN, "ended with exit code 1"),
        ({"train.py": "import os; os.kill(os.getpid(), 11)"}, BuildStage.TRAIN, "signal 11"),
        ({"train.py": "pass"}, BuildStage.TRAIN, "wrote no model.keras"),
        (
            {"train.py": "import os; os.symlink('/etc/hostname', os.environ['EDGELOOP_OUTPUT_DIR'] + '/model.keras')"},
            BuildStage.TRAIN,
            "wrote no model.keras",
        ),
        (
            {"train.py": "import os; open(os.environ['EDGELOOP_OUTPUT_DIR'] + '/model.keras', 'w').write('x')"},
            BuildStage.TRAIN,
            "not a file of Keras 3",
        ),
    ],
)
async def test_an_authors_mistake_is_an_event_with_stage_and_reason(
    files: dict[str, str], stage: BuildStage, says: str, make_repository: Any, deps: Deps
) -> None:
    failed = await failure(pushed(*make_repository(files)), deps)
    assert (failed.stage, says in failed.reason) == (stage, True), failed.reason


@pytest.mark.parametrize(
    ("files", "engine"),
    [
        ({"edgeloop.yaml": "version: 1\n"}, None),
        ({"prepare.py": "raise SystemExit(1)"}, Engine.PROCESS),
        ({"prepare.py": "pass"}, Engine.PROCESS),
        ({"train.py": "raise SystemExit(1)"}, Engine.PROCESS),
    ],
    ids=["nothing-ran", "it-failed", "it-wrote-nothing", "training"],
)
async def test_a_failed_build_names_what_its_code_ran_in(
    files: dict[str, str], engine: Engine | None, make_repository: Any, deps: Deps
) -> None:
    assert (await failure(pushed(*make_repository(files)), deps)).sandbox == engine


async def test_the_last_lines_of_the_program_are_kept(make_repository: Any, deps: Deps) -> None:
    failed = await failure(pushed(*make_repository({"prepare.py": "raise SystemExit('no recordings')"})), deps)
    assert failed.last_lines == ("no recordings",)
    assert "data.prepare (python prepare.py)" in failed.reason


async def test_a_step_that_never_ends_is_ended_by_its_own_timeout(make_repository: Any, deps: Deps) -> None:
    files = {"prepare.py": "import time; print('begun', flush=True); time.sleep(999)"}
    failed = await failure(pushed(*make_repository(files)), deps)
    assert "did not end within 5 s" in failed.reason
    assert "data.prepare.timeout_s" in failed.reason
    assert failed.last_lines == ("begun",)


async def test_a_step_sees_nothing_of_the_builder(
    make_repository: Any, deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELOOP_WEBHOOK_SECRET", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = "import os, sys; print(*sorted(os.environ), sep='\\n'); print(os.environ['HOME']); sys.exit(1)"
    failed = await failure(pushed(*make_repository({"prepare.py": code})), deps)
    *names, home = failed.last_lines
    assert {name for name in names if name.startswith("EDGELOOP_")} == {"EDGELOOP_OUTPUT_DIR", "EDGELOOP_SEED"}
    assert "AWS_SECRET_ACCESS_KEY" not in names
    assert Path(home).is_relative_to(deps.work)


async def test_a_commit_that_is_gone_is_an_event(make_repository: Any, deps: Deps) -> None:
    address, _ = make_repository({})
    assert (await failure(pushed(address, "0" * 40), deps)).stage is BuildStage.CLONE


async def test_a_repository_that_does_not_answer_is_tried_again(deps: Deps, tmp_path: Path) -> None:
    with pytest.raises(Retry, match="cannot be read"):
        await build_commit.call(pushed((tmp_path / "none").as_uri(), "0" * 40), deps)
    assert not list(deps.work.iterdir())


async def test_a_full_disk_is_tried_again(make_repository: Any, deps: Deps) -> None:
    full = {"prepare.py": "raise OSError(28, 'No space left on device')"}
    with pytest.raises(Retry, match="no space left"):
        await build_commit.call(pushed(*make_repository(full)), deps)


async def test_too_little_room_is_waited_out_before_anything_is_done(make_repository: Any, deps: Deps) -> None:
    greedy = dataclasses.replace(deps, tools=dataclasses.replace(deps.tools, minimum_free_bytes=2**60))
    with pytest.raises(Unavailable, match="bytes free; a build needs"):
        await build_commit.call(pushed(*make_repository({})), greedy)


async def test_a_missing_key_is_tried_again_and_named(make_repository: Any, deps: Deps, tmp_path: Path) -> None:
    keyless = dataclasses.replace(deps, tools=dataclasses.replace(deps.tools, signing_key=tmp_path / "none.pem"))
    with pytest.raises(Retry, match=r"none\.pem cannot be read"):
        await build_commit.call(pushed(*make_repository({})), keyless)


async def test_retraining_of_an_unknown_release_is_rejected(deps: Deps) -> None:
    asked = RetrainingRequested(project="gestures", drift_id=uuid4(), digest="sha256:" + "0" * 64, production=())
    with pytest.raises(Reject, match="retraining of sha256:0"):
        await build_with_production_data.call(event_of(asked), deps)


async def test_a_release_that_vanished_is_built_again(make_repository: Any, deps: Deps) -> None:
    address, commit = make_repository({"prepare.py": "raise SystemExit(1)"})
    key = build_key(
        project="gestures",
        repository=address,
        commit=commit,
        trigger=Trigger.PUSH,
        production=(),
        toolbox=TOOLBOX.digest,
    )
    async with deps.store.transaction() as tx:
        builds.remember(tx, key, digest="sha256:" + "0" * 64, project="gestures", commit=commit)
    await failure(pushed(address, commit), deps)
    async with deps.store.transaction() as tx:
        assert builds.remembered(tx, key) is None


async def test_a_cancelled_build_leaves_nothing(make_repository: Any, deps: Deps, tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(999)"
    building = asyncio.ensure_future(build_commit.call(pushed(*make_repository({"prepare.py": code})), deps))
    pid = int(await eventually(lambda: text_of(tmp_path / "pid")))
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert has_ended(pid)
    assert not list(deps.work.iterdir())


def test_folders_of_killed_builders_are_removed_and_living_ones_kept(tmp_path: Path) -> None:
    (tmp_path / "build-killed").mkdir()
    (tmp_path / "build-killed" / ".lock").touch()
    with workspace(tmp_path) as living:
        assert remove_stale(tmp_path) == ["build-killed"]
        assert living.exists()
    assert not list(tmp_path.iterdir())
