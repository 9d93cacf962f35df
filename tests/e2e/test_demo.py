"""The whole loop, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOARDS = 24
STAGES = ["build", "data-validation", "model-validation", "lab", "rollout"]


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_demo_closes_the_loop(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "edgeloop", "demo", "--json", "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=450)
    assert done.returncode == 0, done.stderr[-6000:]

    found = json.loads(done.stdout)  # exactly one object: anything else on stdout would not parse
    first, second = found["runs"]
    assert (first["trigger"], second["trigger"]) == ("push", "drift")
    assert first["commit"] == second["commit"]
    assert first["digest"] != second["digest"]
    assert [stage["name"] for stage in first["stages"]] == STAGES
    assert [stage["name"] for stage in second["stages"]] == ["collect", *STAGES]
    for run in found["runs"]:
        assert {stage["outcome"] for stage in run["stages"]} == {"passed"}
        assert all(stage["seconds"] > 0 for stage in run["stages"])
        assert {board["board"] for board in run["boards"]} == {"cortex-m0plus", "cortex-m4", "cortex-m7"}
        for board in run["boards"]:
            assert board["parity"] == "bit-exact"
            assert board["accuracy"] > 0.7
            assert min(board["flash_bytes"], board["ram_bytes"], board["instructions"], board["latency_ms"]) > 0
            assert board["latency_class"] == "modelled"

    assert len({device["device"] for device in found["fleet"]}) == len(found["fleet"]) == BOARDS
    assert {device["digest"] for device in found["fleet"]} == {second["digest"]}
    assert {device["state"] for device in found["fleet"]} == {"confirmed"}

    accuracy = found["accuracy"]
    assert accuracy["under_drift"] < accuracy["before_drift"] - 0.2
    assert accuracy["under_drift"] < accuracy["after_retraining"] - 0.2
    assert not (data / "stack.json").exists()
