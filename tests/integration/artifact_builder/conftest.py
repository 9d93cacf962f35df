"""Small repositories to build, a key to sign with, and sandboxes to break out of."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from services.artifact_builder.firmware.signing import generate_key
from services.artifact_builder.sandbox.engines import STRONG, Engine, Mode
from services.artifact_builder.sandbox.opening import LOCAL_REPOSITORIES, SandboxOptions
from services.artifact_builder.tools import Tools
from tests.integration.artifact_builder.hostile import Place
from tests.integration.artifact_builder.sandboxes import sandbox_of
from tests.support import git

MANIFEST = """\
version: 1
name: Gestures
labels: [up, down]
input: {shape: [8, 1], minimum: -1, maximum: 1}
data:
  prepare: {command: [python, prepare.py], timeout_s: 5}
  train: {path: train.npz}
  test: {path: test.npz}
model:
  train: {command: [python, train.py], timeout_s: 120}
boards: [cortex-m4]
gates: {accuracy: 0.5}
"""

PREPARE = """\
import os
import numpy as np
for name in ("train", "test"):
    rows = dict(x=np.zeros((4, 8, 1), np.float32), y=np.array([0, 1, 0, 1]), group=np.arange(4))
    np.savez(os.path.join(os.environ["EDGELOOP_OUTPUT_DIR"], name + ".npz"), **rows)
"""

MakeRepository = Callable[[Mapping[str, str]], tuple[str, str]]


def commit_all(repository: Path) -> str:
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=Change")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def make_repository(tmp_path: Path) -> MakeRepository:
    """Commit files over those of a repository that is right; return its address and the commit."""

    def make(files: Mapping[str, str]) -> tuple[str, str]:
        repository = tmp_path / "repository"
        repository.mkdir(exist_ok=True)
        for name, text in {"edgeloop.yaml": MANIFEST, "prepare.py": PREPARE, **files}.items():
            (repository / name).write_text(text)
        return repository.as_uri(), commit_all(repository)

    return make


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    generate_key(folder / "signing.pem", folder / "signing.pub.pem")
    return folder / "signing.pem"


@pytest.fixture
def tools(zig_cache: Path, signing_key: Path) -> Tools:
    """Return tools that trust the test's own repositories, so that every machine runs these tests alike."""
    return Tools(
        signing_key=signing_key,
        compiler_cache=zig_cache,
        minimum_free_bytes=0,
        sandbox=SandboxOptions(mode=Mode.PROCESS, trusted=LOCAL_REPOSITORIES),
    )


@pytest.fixture(params=STRONG)
def strong(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place with each sandbox that contains whatever runs in it."""
    return Place(tmp_path, sandbox_of(request.param, tmp_path / "scratch"))


@pytest.fixture(params=list(Engine))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place with each sandbox."""
    return Place(tmp_path, sandbox_of(request.param, tmp_path / "scratch"))
