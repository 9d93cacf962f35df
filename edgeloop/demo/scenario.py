"""The demo's story, a function a step, in the order in which they happen."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeloop.datasets import add_dataset, checked
from edgeloop.demo.example import NAME, Repositories, make_repositories, push, run_script
from edgeloop.demo.observer import Observed, Observer, observing
from edgeloop.demo.playground import Playground, Score
from edgeloop.demo.summary import Proof
from edgeloop.demo.view import View
from edgeloop.errors import EdgeloopError, GateFailedError, UsageError
from edgeloop.githook import install
from edgeloop.layout import Layout, StackState
from edgeloop.run_view import reason_of
from edgeloop.runs import Outcome, Run
from edgeloop.stack.fleet import Fleet
from edgeloop.stack.stack import StackOptions, running
from services.source_webhook.domain import project_of
from shared.events import Trigger
from shared.events.dataset import DatasetRole

BOARDS: Final = 24
PROJECT: Final = project_of(f"local/{NAME}")
TRAINED_ON: Final = "right"
DRIFTS_TO: Final = "left"
PREDICTIONS: Final = 300
"""Behind every measured accuracy: 24 boards, about six seconds; one standard error is two or three points."""

RUN_BEGINS_S: Final = 15.0
RUN_DEADLINE_S: Final = 240.0
FLEET_DEADLINE_S: Final = 30.0
MEASURE_DEADLINE_S: Final = 60.0
DRIFT_DEADLINE_S: Final = 90.0

LOG_OF_STAGE: Final = {
    "collect": "drift_monitor",
    "build": "artifact_builder",
    "data-validation": "data_validator",
    "model-validation": "model_validator",
    "lab": "device_lab_scheduler",
    "rollout": "rollout_controller",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays: everything that the steps need."""

    layout: Layout
    repositories: Repositories
    stack: StackState
    observer: Observer
    playground: Playground
    view: View


async def play(data: Path, view: View, on_end: Callable[[Proof], None], *, keep: bool) -> None:
    """Play the whole story in `data`, hand over the proof, and if asked to keep the stack until cancelled.

    Raises:
        GateFailedError: a run failed, or the accuracy did not behave.
        InfrastructureError: something did not happen in time.
        UsageError: a demo was already played in `data`.
    """
    began = time.monotonic()
    async with _stage_set(data, view) as stage:
        try:
            first = await release_by_push(stage)
            before = await measure_before_drift(stage)
            under = await wear_on_the_other_wrist(stage)
            await wait_for_drift(stage)
            await hand_in_recordings(stage)
            second = await release_by_retraining(stage)
            after = await measure_after_retraining(stage)
        except EdgeloopError as error:
            raise with_next_step(error, stage) from error
        fleet = tuple(stage.observer.observed.fleet.values())
        proof = Proof((first, second), fleet, before, under, after, time.monotonic() - began)
        check_recovery(proof)
        on_end(proof)
        if keep:
            view.note("the stack stays up until Ctrl-C; look around from another terminal:")
            for command in ("run list", "run show", "dlq ls", "doctor"):
                view.note(f"  edgeloop {command} --data {stage.layout.root}")
            with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is how it is meant to end
                await asyncio.Event().wait()


@asynccontextmanager
async def _stage_set(data: Path, view: View) -> AsyncIterator[Stage]:
    directory = data / "demo"
    if directory.exists():
        raise UsageError(
            f"{directory}: a demo was already played here", next_step="name another --data, or leave it away"
        )
    view.step(f"make a git repository from examples/{NAME}")
    repositories = await asyncio.to_thread(make_repositories, directory)
    world = directory / "world.npz"
    await run_script(repositories, "world.py", world)
    view.step(f"start the bus, seven services, {BOARDS} virtual boards and their gateway")
    options = StackOptions(data=data, fleet=Fleet(boards=BOARDS, project=PROJECT, world=world))
    async with (
        running(options, view.note) as (stack, state),
        observing(state.nats_url, view.update) as observer,
    ):
        playground = Playground(state.virtual_url or "")
        try:
            yield Stage(stack.layout, repositories, state, observer, playground, view)
        finally:
            await playground.close()


async def release_by_push(stage: Stage) -> Run:
    """Push a commit, and see it become a confirmed release on every board."""
    await stage.playground.move_to(TRAINED_ON)
    webhook = f"{stage.stack.webhook_url}/webhooks/github"
    secret = stage.layout.webhook_secret.read_text("utf-8").strip()
    install(stage.repositories.bare, url=webhook, secret=secret, data=stage.layout.root)
    stage.view.step("git push origin main")
    for line in (await push(stage.repositories)).splitlines():
        if "edgeloop:" in line:
            stage.view.note(line.strip())
    return await _released(stage, Trigger.PUSH)


async def measure_before_drift(stage: Stage) -> Score:
    """Count right predictions where the model was trained for."""
    stage.view.step(f"measure the boards' accuracy on the {TRAINED_ON} wrist")
    return await _measure(stage, TRAINED_ON)


async def wear_on_the_other_wrist(stage: Stage) -> Score:
    """Change the world, and see the accuracy fall."""
    stage.view.step(f"the watches move to the {DRIFTS_TO} wrist: what does the model make of it?")
    await stage.playground.move_to(DRIFTS_TO)
    return await _measure(stage, DRIFTS_TO)


async def wait_for_drift(stage: Stage) -> None:
    """See the drift monitor notice, from telemetry that holds no labels."""
    stage.view.step("wait for the drift monitor, which sees histograms only")
    run = await stage.observer.until(
        "drift was not detected", lambda observed: observed.run_of(Trigger.DRIFT), deadline_s=DRIFT_DEADLINE_S
    )
    stage.view.note(f"drift detected: {run.stages[0].detail}")


async def hand_in_recordings(stage: Stage) -> None:
    """Hand in labelled recordings of other people, as a data team would after an alarm."""
    production = stage.layout.root / "demo" / "production.npz"
    stage.view.step(f"edgeloop data add {production.name} --project {PROJECT} --role production")
    await run_script(stage.repositories, "collect.py", production)
    dataset = checked(production)
    await add_dataset(stage.stack.nats_url, PROJECT, dataset, DatasetRole.PRODUCTION, description="the other wrist")
    stage.view.note(f"{dataset.rows} labelled windows of {dataset.groups} people")


async def release_by_retraining(stage: Stage) -> Run:
    """See the retrained release go the same way as the first, without anybody's push."""
    stage.view.step("retrain, validate, test and roll out again")
    return await _released(stage, Trigger.DRIFT)


async def measure_after_retraining(stage: Stage) -> Score:
    """Count right predictions where the first release failed."""
    stage.view.step(f"measure the boards' accuracy on the {DRIFTS_TO} wrist again")
    return await _measure(stage, DRIFTS_TO)


def check_recovery(proof: Proof) -> None:
    """Refuse a demo that shows nothing.

    Raises:
        GateFailedError: the accuracy did not fall, or did not come back.
    """
    before, under, after = (score.accuracy for score in (proof.before_drift, proof.under_drift, proof.after_retraining))
    if not under < before or not under < after:
        raise GateFailedError(
            f"accuracy was {before:.3f} before the drift, {under:.3f} under it and {after:.3f} after retraining; "
            "it should have fallen and come back"
        )


async def _released(stage: Stage, trigger: Trigger) -> Run:
    await stage.observer.until(
        f"a run by {trigger} did not begin", lambda observed: observed.run_of(trigger), deadline_s=RUN_BEGINS_S
    )

    def ended(observed: Observed) -> Run | None:
        run = observed.run_of(trigger)
        return run if run and run.outcome.is_final else None

    run = await stage.observer.until(f"the run by {trigger} did not end", ended, deadline_s=RUN_DEADLINE_S)
    if run.outcome is not Outcome.PASSED:
        raise GateFailedError(f"the run by {trigger} {run.outcome}: {reason_of(run)}")

    def confirmed(observed: Observed) -> bool | None:
        return observed.confirmed_on(run.digest) == BOARDS or None

    await stage.observer.until(
        f"not all {BOARDS} boards report the confirmed release", confirmed, deadline_s=FLEET_DEADLINE_S
    )
    return run


async def _measure(stage: Stage, environment: str) -> Score:
    await stage.playground.reset()
    score = await stage.playground.measure(environment, predictions=PREDICTIONS, deadline_s=MEASURE_DEADLINE_S)
    stage.view.note(f"{score.correct} of {score.total} predictions were right: {score.accuracy:.3f}")
    return score


def with_next_step(error: EdgeloopError, stage: Stage) -> EdgeloopError:
    """Return `error` with the log that says more, and how to look at the run."""
    if error.next_step:
        return error
    observed = stage.observer.observed
    data, log = stage.layout.root, stage.layout.logs
    command = ""
    if observed.dead_letters:
        command = f"edgeloop dlq ls --data {data}"
    elif observed.runs:
        run = observed.runs[-1]
        command = f"edgeloop run show {str(run.run_id)[:8]} --data {data}"
        current = next((part for part in run.stages if part.outcome is not Outcome.PASSED), run.stages[-1])
        log = stage.layout.log_of(LOG_OF_STAGE[current.name])
    error.next_step = f"{command}; or less {log}" if command else f"less {log}"
    return error


@asynccontextmanager
async def data_directory(wanted: Path | None) -> AsyncIterator[Path]:
    """Lend a directory: the one that was asked for, else a temporary one, which stays only when the demo failed."""
    if wanted is not None:
        yield wanted
        return
    directory = Path(tempfile.mkdtemp(prefix="edgeloop-demo-"))
    failed = False
    try:
        yield directory
    except Exception:
        failed = True  # its logs are what one needs then
        raise
    finally:
        if not failed:
            shutil.rmtree(directory, ignore_errors=True)
