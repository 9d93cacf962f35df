"""What the demo prints and refuses, without playing it."""

import asyncio
import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from edgeloop.cli import execute
from edgeloop.demo.example import Repositories, example_directory, make_repositories
from edgeloop.demo.observer import Observed, Observer
from edgeloop.demo.playground import Playground, Score
from edgeloop.demo.scenario import Stage as Scene
from edgeloop.demo.scenario import check_recovery, data_directory, with_next_step
from edgeloop.demo.summary import Proof, summarise, summary_tables
from edgeloop.demo.view import View
from edgeloop.errors import GateFailedError, InfrastructureError, UsageError
from edgeloop.git import git
from edgeloop.layout import Layout, StackState
from edgeloop.run_view import run_table, run_tree, with_reason
from edgeloop.runs import Outcome, RolloutStage, Run, Stage
from shared.events import Trigger, derived_id
from shared.events.device import DeviceReported, DeviceState
from shared.events.lab import BoardClass, BoardResult, Numerics, Origin, Parity

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "sha256:" + "1" * 64
BOARD = BoardResult(
    board="cortex-m4",
    board_class=BoardClass.EMULATED,
    flash_bytes=40_960,
    ram_bytes=8_192,
    stack_bytes=512,
    instructions=1_234_567,
    accuracy=0.87654,
    inputs=300,
    mismatches=0,
    parity=Parity.BIT_EXACT,
    numerics=Numerics.TFLM,
    seconds=1.0,
    latency_ms=23.1481,
    latency_class=Origin.MODELLED,
    energy_uj=406.789,
    energy_class=Origin.MODELLED,
)


def run_of(trigger: Trigger, outcome: Outcome = Outcome.PASSED) -> Run:
    return Run(
        run_id=derived_id(trigger),
        project="acme-gait",
        trigger=trigger,
        began_at=NOW,
        outcome=outcome,
        reason="" if outcome is Outcome.PASSED else "train.py: exit code 1",
        commit="ab" * 20,
        digest=DIGEST,
        stages=(
            Stage(name="build", outcome=outcome, seconds=12.3456, began_at=NOW),
            Stage(name="lab", outcome=Outcome.RUNNING, began_at=NOW),
            Stage(name="rollout"),
        ),
        boards=(BOARD,),
        rollout=(RolloutStage(name="canary", outcome=Outcome.RUNNING, devices=2, verified=1, failed=1),),
    )


def report_of(device: str) -> DeviceReported:
    return DeviceReported(
        project="acme-gait",
        device=device,
        gateway="local",
        board="cortex-m4",
        board_class=BoardClass.VIRTUAL,
        state=DeviceState.CONFIRMED,
        digest=DIGEST,
        image_hash="00",
        observed_at=NOW,
    )


def proof_of(before: int, under: int, after: int) -> Proof:
    runs = (run_of(Trigger.PUSH), run_of(Trigger.DRIFT))
    fleet = (report_of("board-02"), report_of("board-01"))
    return Proof(runs, fleet, Score(before, 100), Score(under, 100), Score(after, 100), 61.5)


def printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_has_the_promised_shape() -> None:
    found = json.loads(summarise(proof_of(90, 30, 85)).model_dump_json())
    assert found["accuracy"] == {"before_drift": 0.9, "under_drift": 0.3, "after_retraining": 0.85}
    assert found["fleet"][0] == {"device": "board-01", "digest": DIGEST, "state": "confirmed"}
    assert [run["trigger"] for run in found["runs"]] == ["push", "drift"]
    assert found["runs"][0]["stages"][0] == {"name": "build", "outcome": "passed", "seconds": 12.346}
    assert found["runs"][0]["boards"] == [
        {
            "board": "cortex-m4",
            "flash_bytes": 40960,
            "ram_bytes": 8192,
            "instructions": 1234567,
            "accuracy": 0.8765,
            "parity": "bit-exact",
            "latency_ms": 23.1481,
            "latency_class": "modelled",
            "energy_uj": 406.789,
            "energy_class": "modelled",
        }
    ]


def test_the_tables_say_what_ran_where() -> None:
    text = printed(summary_tables(proof_of(90, 30, 85)))
    cost = "23.1 ms modelled, 407 µJ modelled"
    for expected in ("cortex-m4", "40.0 KiB", "1,234,567", "bit-exact", cost, "0.900 before the drift", "12.3 s"):
        assert expected in text


@pytest.mark.parametrize(("before", "under", "after"), [(80, 80, 90), (80, 30, 30), (30, 80, 90)])
def test_a_demo_that_shows_no_recovery_fails(before: int, under: int, after: int) -> None:
    with pytest.raises(GateFailedError, match="should have fallen and come back"):
        check_recovery(proof_of(before, under, after))


def test_a_recovery_passes() -> None:
    check_recovery(proof_of(90, 30, 85))


def test_a_tree_shows_stages_boards_and_devices() -> None:
    text = printed(run_tree(run_of(Trigger.PUSH), NOW))
    for expected in ("push acme-gait", "abababab", "build  12.3 s", "1,234,567 instructions", "1/2 verified, 1 failed"):
        assert expected in text


def test_a_tree_says_what_an_inference_takes_and_that_it_is_modelled() -> None:
    run = run_of(Trigger.PUSH)
    assert "cortex-m4: 23.1 ms modelled, 407 µJ modelled" in printed(run_tree(run, NOW))
    board = run.boards[0].model_copy(update={"energy_uj": None})
    assert "23.1 ms modelled\n" in printed(run_tree(run.model_copy(update={"boards": (board,)}), NOW))
    earlier = board.model_copy(update={"latency_ms": None, "latency_class": None})
    assert "modelled" not in printed(run_tree(run.model_copy(update={"boards": (earlier,)}), NOW))


def test_a_tree_says_what_kept_the_repositorys_code_apart() -> None:
    run = run_of(Trigger.PUSH)
    assert "its code ran in" not in printed(run_tree(run, NOW))
    assert "its code ran in a bubblewrap sandbox" in printed(
        run_tree(run.model_copy(update={"sandbox": "bubblewrap"}), NOW)
    )
    assert "without a sandbox" in printed(run_tree(run.model_copy(update={"sandbox": "process"}), NOW))


def test_a_failed_run_shows_its_reason_and_its_stage_in_the_list() -> None:
    run = run_of(Trigger.PUSH, Outcome.FAILED)
    assert printed(with_reason(run, NOW)).count("train.py: exit code 1") == 1
    assert "build" in printed(run_table([run]))


def test_without_a_terminal_every_change_is_a_line_and_told_once() -> None:
    console = Console(file=io.StringIO(), width=160)
    view = View(console)
    observed = Observed(runs=(run_of(Trigger.PUSH),), fleet={"board-01": report_of("board-01")})
    with view.shown():
        view.step("begin")
        view.update(observed)
        view.update(observed)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("push build passed in 12.3 s") == 1
    assert text.count("fleet of 1: 1 release 111111111111 confirmed") == 1


def test_only_confirmed_boards_on_the_release_are_counted() -> None:
    lost = report_of("board-02").model_copy(update={"state": DeviceState.LOST})
    observed = Observed(fleet={"board-01": report_of("board-01"), "board-02": lost})
    assert (observed.confirmed_on(DIGEST), observed.confirmed_on(None)) == (1, 0)


def test_the_example_becomes_the_same_commit_every_time(tmp_path: Path) -> None:
    commits = {git(make_repositories(tmp_path / name).checkout, "rev-parse", "HEAD") for name in ("first", "second")}
    assert len(commits) == 1


def test_a_missing_example_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop.__file__", str(tmp_path / "edgeloop" / "__init__.py"))
    with pytest.raises(UsageError, match="the example is not there"):
        example_directory()


def test_a_directory_that_holds_a_demo_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").mkdir()
    assert execute(["demo", "--data", str(tmp_path), "--json"]) == 2
    captured = capsys.readouterr()
    assert "already played" in captured.err
    assert json.loads(captured.out)["exit_code"] == 2


@pytest.mark.parametrize(("error", "stays"), [(GateFailedError("no"), True), (asyncio.CancelledError(), False)])
async def test_a_temporary_directory_stays_after_a_failure_only(error: BaseException, *, stays: bool) -> None:
    with pytest.raises(type(error)):
        async with data_directory(None) as directory:
            raise error
    assert directory.is_dir() is stays
    shutil.rmtree(directory, ignore_errors=True)
    async with data_directory(None) as directory:
        pass
    assert not directory.exists()


def test_a_demo_that_takes_too_long_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["demo", "--data", str(tmp_path), "--timeout", "1", "--json"]) == 3
    assert f"edgeloop run list --data {tmp_path}" in json.loads(capsys.readouterr().out)["next_step"]


async def test_waiting_ends_with_what_did_not_happen() -> None:
    with pytest.raises(InfrastructureError, match=r"no drift: not within 0\.05 s"):
        await Observer(lambda _: None).until("no drift", lambda _: None, deadline_s=0.05)


async def test_waiting_ends_at_once_when_a_service_gave_up_on_a_message() -> None:
    observer = Observer(lambda _: None)
    observer.observed.dead_letters = 2
    with pytest.raises(InfrastructureError, match="2 messages could not be handled"):
        await observer.until("no drift", lambda _: None, deadline_s=60)


async def test_what_has_happened_already_is_not_waited_for() -> None:
    observer = Observer(lambda _: None)
    observer.observed.runs = (run_of(Trigger.DRIFT),)
    run = await observer.until("no drift", lambda seen: seen.run_of(Trigger.DRIFT), deadline_s=60)
    assert run.trigger is Trigger.DRIFT


async def test_a_failed_demo_names_the_log_and_the_command_that_say_more(tmp_path: Path) -> None:
    observer = Observer(lambda _: None)
    state = StackState(pid=1, nats_url="nats://x", webhook_url="http://x", services={})
    playground = Playground("http://127.0.0.1:9")
    scene = Scene(Layout(tmp_path), Repositories(tmp_path, tmp_path), state, observer, playground, View(Console()))
    assert f"less {tmp_path / 'logs'}" in with_next_step(GateFailedError("it failed"), scene).next_step
    run = run_of(Trigger.PUSH, Outcome.FAILED)
    observer.observed.runs = (run,)
    next_step = with_next_step(GateFailedError("it failed"), scene).next_step
    assert "artifact_builder.log" in next_step
    assert f"edgeloop run show {str(run.run_id)[:8]} --data {tmp_path}" in next_step
    observer.observed.dead_letters = 1
    assert "edgeloop dlq ls" in with_next_step(InfrastructureError("it hangs"), scene).next_step
    assert with_next_step(InfrastructureError("no", next_step="known"), scene).next_step == "known"
    await playground.close()


async def test_a_playground_that_is_not_there_is_named() -> None:
    playground = Playground("http://127.0.0.1:9")
    with pytest.raises(InfrastructureError, match=r"PUT http://127\.0\.0\.1:9"):
        await playground.move_to("left")
    await playground.close()
