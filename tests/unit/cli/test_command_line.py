"""What every command owes its user: exit codes, one message, JSON on stdout alone."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeloop.checks import Health, examine
from edgeloop.cli import execute
from tests.support import ROOT

STACK_COMMANDS = [
    ["run", "list"],
    ["run", "show"],
    ["run", "watch"],
    ["dlq", "ls"],
    ["dlq", "show", "1"],
    ["dlq", "replay", "1"],
    ["dlq", "drop", "--all"],
    ["hook", "install", "."],
    ["lab", "boards"],
    ["lab", "history"],
    ["lab", "lease", "list"],
    ["lab", "reserve"],
]


@pytest.mark.parametrize("command", STACK_COMMANDS, ids=" ".join)
def test_a_missing_data_directory_is_bad_input(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    assert execute([*command, "--data", str(missing), "--json"]) == 2
    captured = capsys.readouterr()
    assert f"--data {missing}: no such directory" in captured.err
    assert "edgeloop up" in captured.err
    assert json.loads(captured.out)["exit_code"] == 2


@pytest.mark.parametrize("command", STACK_COMMANDS, ids=" ".join)
def test_a_directory_without_a_running_stack_is_infrastructure(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute([*command, "--data", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert "no stack is running" in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("command", [["run", "list"], ["dlq", "ls"]], ids=" ".join)
def test_a_bus_that_is_not_there_is_infrastructure(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*command, "--nats-url", "nats://127.0.0.1:9"]) == 3
    error = capsys.readouterr().err
    assert "nats://127.0.0.1:9" in error
    assert "next:" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run", "lit"],
        ["run", "list", "--frobnicate"],
        ["dlq", "show", "one"],
        ["dlq", "show", "0"],
        ["dlq", "replay"],
        ["dlq", "replay", "1", "--all"],
        ["data", "add", "missing.npz", "--project", "p"],
        ["up", "--project", "p"],
        ["up", "--virtual-boards", "2"],
        ["up", "--virtual-boards", "2", "--project", "p"],
        ["up", "--webhook-port", "70000"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_usage_errors_without_a_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err
    assert "Traceback" not in captured.err


def test_a_project_that_is_no_slug_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.npz"
    file.write_bytes(b"")
    assert execute(["data", "add", str(file), "--project", "Not A Slug"]) == 2
    assert "'Not A Slug'" in capsys.readouterr().err


def test_a_dataset_that_is_none_is_named_before_any_bus_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.npz"
    file.write_bytes(b"not a zip")
    assert execute(["data", "add", str(file), "--project", "p", "--nats-url", "nats://127.0.0.1:9"]) == 2
    assert "not a readable .npz" in capsys.readouterr().err


def test_debug_shows_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", "list", "--data", str(tmp_path), "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgeloop ")


def test_whoever_asks_for_help_does_not_wait_for_what_compiles_emulates_or_stores() -> None:
    code = "import sys, edgeloop.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert not loaded & {"numpy", "unicorn", "tflite", "imgtool", "cryptography", "sqlalchemy", "tensorflow"}


def test_a_full_disk_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(data: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(data / "keys"))

    monkeypatch.setattr("edgeloop.commands.doctor.examine", full)
    assert execute(["doctor", "--data", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert f"{tmp_path / 'keys'}: the disk is full" in captured.err
    assert "another disk" in captured.err


COMMANDS = [
    ["up"],
    ["demo"],
    ["doctor"],
    ["run", "list"],
    ["run", "show"],
    ["run", "watch"],
    ["dlq", "ls"],
    ["dlq", "show"],
    ["dlq", "replay"],
    ["dlq", "drop"],
    ["hook", "install"],
    ["data", "add"],
    ["lab", "test"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_the_doctor_finds_this_machine_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["doctor", "--json", "--data", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is True
    names = {finding["name"] for finding in found["findings"]}
    assert {"python", "nats-server", "zig", "git", "disk space", "data directory", "stack"} <= names


@pytest.mark.parametrize(
    ("asked", "health", "says"),
    [
        ("container", Health.WARNING, ("EDGELOOP_SANDBOX_IMAGE names no image", "until then nothing is built")),
        ("process", Health.WARNING, ("EDGELOOP_SANDBOX=process is none", "set EDGELOOP_SANDBOX=auto")),
        ("gvisor", Health.FAILED, ("EDGELOOP_SANDBOX: Input should be 'auto', 'container'", "correct the variable")),
    ],
)
def test_the_doctor_speaks_of_the_sandbox_that_was_asked_for(
    asked: str, health: Health, says: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELOOP_SANDBOX", asked)
    monkeypatch.delenv("EDGELOOP_SANDBOX_IMAGE", raising=False)
    finding = next(finding for finding in examine(tmp_path) if finding.name == "sandbox")
    found, next_step = says
    assert (finding.health, found in finding.found, next_step in finding.next_step) == (health, True, True), finding


def test_the_doctor_names_a_service_that_does_not_answer(tmp_path: Path) -> None:
    services = {"rollout_controller": "http://127.0.0.1:9"}
    state = {"pid": os.getpid(), "nats_url": "nats://x", "webhook_url": "http://x", "services": services}
    (tmp_path / "stack.json").write_text(json.dumps(state))
    finding = next(finding for finding in examine(tmp_path) if finding.name == "rollout_controller")
    assert (finding.health, "does not answer" in finding.found) == (Health.FAILED, True)
    assert "rollout_controller.log" in finding.next_step


def test_no_colour_is_honoured_and_the_module_runs(tmp_path: Path) -> None:
    environment = os.environ | {"NO_COLOR": "1", "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "edgeloop", "run", "list", "--data", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "\x1b[3" not in done.stderr
