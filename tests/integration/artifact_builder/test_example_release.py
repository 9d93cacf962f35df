"""The example as the demo builds it: the real pipeline, TensorFlow and compiler included."""

import asyncio
import io
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pytest
from nats.aio.client import Client

from services.artifact_builder import store as builds
from services.artifact_builder.caching.blobs import BlobCache
from services.artifact_builder.caching.eviction import Bounds
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.handlers import Deps, build_commit
from services.artifact_builder.pipeline import BuildRequest, BuildResult, build
from services.artifact_builder.sandbox.opening import LOCAL_REPOSITORIES, SandboxOptions
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import workspace
from shared.artifacts.layout import write_layout
from shared.artifacts.oci import ArtifactManifest
from shared.artifacts.verify import verify_directory
from shared.events import CheckOutcome, Trigger, envelop
from shared.events.artifact import ArtifactBuilt, BuildStage
from shared.events.source import Forge, SourcePushed
from shared.inference.tflm import tflm_outputs
from shared.releases.histograms import channel_histograms, quantise
from shared.store import Blobs, Store, load_release
from tests.support import git

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "examples" / "exercise-recognition"
PROJECT = "exercise-recognition"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("git") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=Add")
    return folder.as_uri(), git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def module_tools(zig_cache: Path, signing_key: Path) -> Tools:
    return Tools(
        signing_key=signing_key,
        compiler_cache=zig_cache,
        sandbox=SandboxOptions(trusted=LOCAL_REPOSITORIES),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, npt.NDArray[Any]]:
    file = tmp_path_factory.mktemp("world") / "world.npz"
    subprocess.run([sys.executable, "world.py", str(file)], cwd=EXAMPLE, check=True, capture_output=True)
    return dict(np.load(file))


@pytest.fixture(scope="module")
def first(repository: tuple[str, str], module_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    with workspace(tmp_path_factory.mktemp("first")) as folder:
        return asyncio.run(build(BuildRequest(PROJECT, *repository), folder, module_tools))


@pytest.fixture(scope="module")
def retrained(
    repository: tuple[str, str], module_tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> BuildResult:
    file = tmp_path_factory.mktemp("production") / "production.npz"
    subprocess.run([sys.executable, "collect.py", str(file)], cwd=EXAMPLE, check=True, capture_output=True)
    request = BuildRequest(PROJECT, *repository, Trigger.DRIFT, [file.read_bytes()])
    with workspace(tmp_path_factory.mktemp("retrained")) as folder:
        return asyncio.run(build(request, folder, module_tools))


def bytes_of(result: BuildResult, digest: str) -> bytes:
    return next(artifact.data for artifact in result.artifacts if artifact.blob.digest == digest)


def accuracy(result: BuildResult, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    model = result.release.model
    answers = tflm_outputs(bytes_of(result, model.int8.digest), quantise(x, model.input)).argmax(axis=1)
    return float((answers == y).mean())


def worst_psi(result: BuildResult, x: npt.NDArray[np.float32]) -> float:
    """Population stability index of the worst channel, half a count added to every bin."""
    counts = (np.array(result.release.reference.counts), channel_histograms(quantise(x, result.release.model.input)))
    expected, actual = ((c + 0.5) / (c + 0.5).sum(axis=1, keepdims=True) for c in counts)
    return float(((actual - expected) * np.log(actual / expected)).sum(axis=1).max())


def test_a_release_names_bytes_that_are_all_there(first: BuildResult) -> None:
    release = first.release
    stored = {artifact.blob.digest for artifact in first.artifacts}
    files = [*vars(release.model).values(), release.datasets.train, release.datasets.test]
    files += [blob for firmware in release.firmware for blob in (firmware.image, firmware.elf, firmware.sources)]
    assert {blob.digest for blob in files if hasattr(blob, "digest")} < stored
    assert first.artifacts[-2].data == release.to_bytes()
    manifest = ArtifactManifest.model_validate_json(first.artifacts[-1].data)
    assert {file.digest for file in manifest.files} | {first.digest} == stored
    assert [timing.stage for timing in first.stages] == [stage for stage in BuildStage if stage != BuildStage.STORE]


def test_both_artifacts_pass_every_check(
    first: BuildResult, retrained: BuildResult, module_tools: Tools, tmp_path: Path
) -> None:
    for result in (first, retrained):
        folder = tmp_path / result.release.trigger
        write_layout(folder, result.artifacts[-1].data, partial(bytes_of, result))
        checks = verify_directory(folder, [module_tools.signer().public_key], digest=result.digest)
        assert [check for check in checks if check.outcome is not CheckOutcome.PASSED] == []


def test_there_is_firmware_for_every_board_and_it_is_small(first: BuildResult) -> None:
    assert [firmware.board for firmware in first.release.firmware] == ["cortex-m0plus", "cortex-m4", "cortex-m7"]
    for firmware in first.release.firmware:
        assert 5_000 < firmware.flash_bytes < 32_000
        assert firmware.arena_bytes < firmware.ram_bytes < 8_000
        assert firmware.version.startswith("1.0.0+")
    assert first.release.model.int8.size_bytes < 16_000


def test_what_the_bits_depend_on_is_recorded(first: BuildResult) -> None:
    recipe = first.release.recipe
    assert recipe is not None
    assert (recipe.threads, recipe.seed) == (1, first.release.manifest.model.seed)


def test_the_sources_are_c(first: BuildResult) -> None:
    data = bytes_of(first, first.release.firmware[0].sources.digest)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {"model.c", "model.h"} <= set(archive.namelist())


def test_the_golden_output_is_what_tflm_gives(first: BuildResult) -> None:
    golden, model = first.release.golden, bytes_of(first, first.release.model.int8.digest)
    window = np.frombuffer(golden.input, np.int8).reshape(1, 100, 6)
    assert tflm_outputs(model, window).tobytes() == golden.output


def test_the_reference_counts_every_training_sample(first: BuildResult) -> None:
    reference = first.release.reference
    assert [sum(channel) for channel in reference.counts] == [reference.rows * 100] * 6
    assert sum(reference.class_counts) == reference.rows


def test_the_other_wrist_is_drift_and_retraining_mends_it(
    first: BuildResult, retrained: BuildResult, world: dict[str, npt.NDArray[Any]]
) -> None:
    (right, left) = (world["environment"] == wrist for wrist in ("right", "left"))
    x, y = world["x"], world["y"]
    assert accuracy(first, x[right], y[right]) > 0.75
    assert accuracy(first, x[left], y[left]) < 0.45
    assert accuracy(retrained, x[left], y[left]) > 0.7
    threshold = first.release.manifest.drift.psi_threshold
    assert worst_psi(first, x[right][:400]) < threshold / 2
    assert worst_psi(first, x[left][:400]) > 2 * threshold
    assert worst_psi(retrained, x[left][:400]) < threshold / 2


def test_both_releases_pass_their_accuracy_gate(first: BuildResult, retrained: BuildResult) -> None:
    for result in (first, retrained):
        with np.load(io.BytesIO(bytes_of(result, result.release.datasets.test.digest))) as test:
            assert accuracy(result, test["x"], test["y"]) >= result.release.manifest.gates.accuracy
            assert len(test["y"]) <= 300


def test_retraining_is_another_release_of_the_same_commit(first: BuildResult, retrained: BuildResult) -> None:
    assert retrained.digest != first.digest
    assert retrained.release.commit == first.release.commit
    assert retrained.release.reference.rows == 3341
    assert len(retrained.release.datasets.production) == 1


async def test_the_same_commit_gives_the_same_digest_and_a_repeated_push_rebuilds_nothing(
    first: BuildResult, repository: tuple[str, str], module_tools: Tools, nc: Client, tmp_path: Path
) -> None:
    address, commit = repository
    store = Store(f"sqlite:///{tmp_path}/builder.db", builds.METADATA)
    blobs = Blobs(nc.jetstream())
    cache = BlobCache.beside(blobs, store, Bounds())
    deps = Deps(blobs, store, module_tools, Toolbox.of(module_tools), tmp_path / "elsewhere", cache)
    pushed = SourcePushed(
        project=PROJECT, repository=address, ref="refs/heads/main", commit=commit, forge=Forge.GITEA, delivery="1"
    )
    event = envelop(pushed, event_id=uuid4(), source="test", time=datetime.now(UTC), correlation_id=uuid4())
    [built] = await build_commit.call(event, deps)
    assert isinstance(built, ArtifactBuilt)
    assert (built.digest, built.rebuilt) == (first.digest, True)
    assert (await load_release(blobs, built.digest)) == first.release
    [again] = await build_commit.call(event, deps)
    assert isinstance(again, ArtifactBuilt)
    assert (again.digest, again.rebuilt, again.stages) == (first.digest, False, ())
    assert again.firmware == built.firmware
    store.close()
