"""Releases that boards do not survive: the fleet goes back to the one before, and the run says why."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from shared.events import Event, Payload
from shared.events.device import InstallObserved, InstallOutcome
from shared.events.rollout import RolloutFailed, RolloutRolledBack, RolloutStarted, RolloutSucceeded
from tests.e2e.stack import BOARDS, Stack, eventually, repository
from tests.support import git

P = TypeVar("P", bound=Payload)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data")
    yield stack
    stack.stop()


def nth(stack: Stack, number: int, kind: type[P]) -> Event[P] | None:
    return next(iter(stack.all_said(kind)[number - 1 :]), None)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_boards_that_revert_or_vanish_take_the_fleet_back(stack: Stack, tmp_path: Path) -> None:
    checkout = repository(tmp_path)
    stack.run("hook", "install", str(tmp_path / "gestures.git"))
    git(checkout, "push", "origin", "main")
    eventually(lambda: nth(stack, 1, RolloutSucceeded))
    before = {name: board["image_hash"] for name, board in stack.boards().items()}
    canary, rest = (stage.devices for stage in stack.all_said(RolloutStarted)[0].data.stages)

    for name, old, new in (
        ("train.py", "epochs=6", "epochs=7"),
        ("edgeloop.yaml", "failure_budget: 0.05", "install_deadline_s: 8"),
    ):
        (checkout / name).write_text((checkout / name).read_text().replace(old, new))
    git(checkout, "commit", "--quiet", "--all", "--message=Train longer")
    for device in canary:
        stack.harm(device, "revert-next")
    git(checkout, "push", "origin", "main")
    back = eventually(lambda: nth(stack, 1, RolloutRolledBack))

    (failed,) = stack.all_said(RolloutFailed)
    assert failed.data.stage == "canary"
    assert set(failed.data.failed_devices) <= set(canary)  # the first is enough for a verdict
    assert (set(back.data.restored), back.data.lost) == (set(canary), ())
    assert not {event.data.device for event in stack.all_said(InstallObserved)[BOARDS:]} & set(rest)
    code, run = stack.show(failed.correlationid)
    assert (code, run["outcome"]) == (1, "failed")
    assert "reverted of 2 devices" in run["reason"]
    assert "did not survive its trial" in run["reason"]
    assert {name: board["image_hash"] for name, board in stack.boards().items()} == before
    assert {board["state"] for board in stack.boards().values()} == {"confirmed"}

    # The same release again; now one board loses its power while it is written, and does not come back in time.
    stack.harm(rest[0], "power-cut", operations=10, seconds=12)
    git(checkout, "push", "origin", "main:refs/heads/again")
    back = eventually(lambda: nth(stack, 2, RolloutRolledBack))

    failed = stack.all_said(RolloutFailed)[1]
    assert (failed.data.stage, failed.data.failed_devices) == ("all", (rest[0],))
    lost = [event.data for event in stack.all_said(InstallObserved) if event.data.outcome is InstallOutcome.LOST]
    assert lost[0].device == rest[0]
    code, run = stack.show(failed.correlationid)
    assert (code, run["outcome"]) == (1, "failed")
    assert f"1 lost of {len(rest)} devices" in run["reason"]
    assert f"{rest[0]}: not done after 8 s" in run["reason"]
    assert set(back.data.restored) | set(back.data.lost) == set(failed.data.rolling_back)
    assert set(canary) < set(failed.data.rolling_back)
    eventually(lambda: {board["state"] for board in stack.boards().values()} == {"confirmed"})
    assert {name: board["image_hash"] for name, board in stack.boards().items()} == before
