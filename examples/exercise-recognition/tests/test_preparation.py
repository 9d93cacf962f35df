"""What must hold of the data, whatever is changed in the steps."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import the repository's modules as its steps do, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in ("collect", "prepare", "preprocessing", "recordings", "world"):
        sys.modules.pop(name, None)


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run a script's main function as the command line would."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(name).main()


def prepared(directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, np.ndarray]]:
    """Run the prepare step into `directory` and return its arrays."""
    monkeypatch.setenv("EDGELOOP_OUTPUT_DIR", str(directory))
    run("prepare", monkeypatch)
    return {name: dict(np.load(directory / f"{name}.npz")) for name in ("train", "test")}


def test_train_test_and_fleet_share_no_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(tmp_path, monkeypatch)
    run("world", monkeypatch, str(tmp_path / "world.npz"))
    people = [set(data[name]["group"]) for name in data] + [set(np.load(tmp_path / "world.npz")["group"])]
    assert all(a.isdisjoint(b) for index, a in enumerate(people) for b in people[:index])
    assert sorted(set().union(*people)) == list(range(1, 11))


def test_windows_have_the_declared_shape_and_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arrays in prepared(tmp_path, monkeypatch).values():
        assert arrays["x"].shape[1:] == (100, 6)
        assert arrays["x"].dtype == np.float32
        assert np.abs(arrays["x"]).max() <= 1
        assert set(arrays["y"]) == set(range(7))
        assert len(arrays["x"]) == len(arrays["y"]) == len(arrays["group"])


def test_production_data_joins_by_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    production = tmp_path / "production"
    production.mkdir()
    before = prepared(tmp_path, monkeypatch)
    run("collect", monkeypatch, str(production / "0.npz"))
    monkeypatch.setenv("EDGELOOP_PRODUCTION_DIR", str(production))
    after = prepared(tmp_path, monkeypatch)
    assert set(after["train"]["group"]) == set(before["train"]["group"])
    assert set(after["test"]["group"]) == set(before["test"]["group"])
    assert len(after["train"]["y"]) > 1.9 * len(before["train"]["y"])
    assert len(after["test"]["y"]) == 300


def test_the_fleet_is_not_in_the_production_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("collect", monkeypatch, str(tmp_path / "production.npz"))
    assert set(np.load(tmp_path / "production.npz")["group"]) == {1, 2, 3, 4, 5, 6, 7}


def test_the_world_has_both_wrists_in_a_mixed_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("world", monkeypatch, str(tmp_path / "world.npz"))
    world = np.load(tmp_path / "world.npz")
    for wrist in ("right", "left"):
        first = np.flatnonzero(world["environment"] == wrist)[:60]
        assert set(world["y"][first]) == set(range(7))


def test_scaling_clips_at_the_sensors_range() -> None:
    preprocessing = importlib.import_module("preprocessing")
    limit = preprocessing.FULL_SCALE
    assert preprocessing.scale(np.array([limit, 3 * limit, -3 * limit])).tolist() == [[1] * 6, [1] * 6, [-1] * 6]
