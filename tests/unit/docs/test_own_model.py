"""The model repository that a how-to builds step by step is what it says, file by file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from device_gateway.virtual.world import World
from shared.releases.datasets import read_dataset
from shared.releases.manifest_loader import load_manifest

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "push-your-own-model.md"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    text = PAGE.read_text("utf-8")
    blocks = re.findall(r"^```(?:yaml|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names = ("edgeloop.yaml", "fans.py", "prepare.py", "train.py", "world.py", "collect.py")
    assert len(blocks) == len(names)
    for name, content in zip(names, blocks, strict=True):
        assert f"`fan/{name}`" in text
        (tmp_path / name).write_text(content)
    return tmp_path


def run(repository: Path, script: str, **environment: str) -> None:
    command = [sys.executable, "-W", "error", script]
    subprocess.run(command, cwd=repository, env=dict(os.environ) | environment, check=True, timeout=60)


def test_its_manifest_is_one(repository: Path) -> None:
    assert load_manifest(repository).labels == ("off", "balanced", "unbalanced")


def test_its_scripts_write_data_that_edgeloop_takes_and_split_it_by_fan(repository: Path) -> None:
    compile((repository / "train.py").read_text(), "train.py", "exec")
    shape = tuple(load_manifest(repository).input.shape)
    run(repository, "collect.py")
    (repository / "field").mkdir()
    (repository / "production.npz").rename(repository / "field" / "production.npz")
    run(repository, "prepare.py", EDGELOOP_OUTPUT_DIR=".", EDGELOOP_PRODUCTION_DIR="field")
    train, test = read_dataset(repository / "train.npz"), read_dataset(repository / "test.npz")
    assert (train.x.shape[1:], test.x.shape[1:]) == (shape, shape)
    assert not set(np.unique(train.group)) & set(np.unique(test.group))


def test_its_world_begins_where_the_model_was_trained_for(repository: Path) -> None:
    run(repository, "world.py")
    assert World(repository / "world.npz").environments == ("upright", "sideways")
