"""A whole stack under fire: whatever is killed, a push ends as one release on every board, and nothing is lost."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.events import connected
from shared.events import Event, Payload
from shared.events.artifact import ArtifactBuilt
from shared.events.device import InstallObserved
from shared.events.lab import CandidateAccepted
from shared.events.rollout import RolloutStarted, RolloutSucceeded
from tests.e2e.stack import BOARDS, Stack, eventually, is_training, repository
from tests.support import git


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data")
    yield stack
    stack.stop()


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_push_survives_killed_services_a_killed_bus_and_poison(stack: Stack, tmp_path: Path) -> None:
    checkout = repository(tmp_path)
    stack.run("hook", "install", str(tmp_path / "gestures.git"))

    async def poison() -> None:
        async with connected(stack.state["nats_url"]) as nc:
            await nc.jetstream().publish("edgeloop.evt.local-gestures.source.pushed.v1", b"\xff not an event")
            await nc.jetstream().publish("edgeloop.evt.local-gestures.lab.candidate_accepted.v1", b"{}")

    asyncio.run(poison())
    git(checkout, "push", "origin", "main")
    eventually(lambda: is_training(stack))
    stack.kill("artifact_builder")

    def first(kind: type[Payload]) -> Event[Payload] | None:
        return next((event for event in stack.said() if isinstance(event.data, kind)), None)

    eventually(lambda: first(RolloutStarted))
    stack.kill("rollout_controller")
    stack.kill("device_gateway")
    stack.kill("nats")
    ended = eventually(lambda: first(RolloutSucceeded))

    events = [event.data for event in stack.said()]
    counts = Counter(type(payload) for payload in events)
    built = next(payload for payload in events if isinstance(payload, ArtifactBuilt))
    verified = Counter(
        payload.device for payload in events if isinstance(payload, InstallObserved) and payload.outcome == "verified"
    )
    assert counts[ArtifactBuilt] == counts[CandidateAccepted] == counts[RolloutStarted] == counts[RolloutSucceeded] == 1
    assert isinstance(ended.data, RolloutSucceeded)
    assert (ended.data.digest, ended.data.devices) == (built.digest, BOARDS)
    assert len(verified) == BOARDS

    letters = stack.run("dlq", "ls")
    assert {(letter["consumer"], letter["subject"].split(".", 3)[3]) for letter in letters} == {
        ("artifact_builder-pushed", "source.pushed.v1"),
        ("rollout_controller", "lab.candidate_accepted.v1"),
    }

    # The same commit again, as another branch: everything is there already.
    git(checkout, "push", "origin", "main:refs/heads/again")
    again = eventually(
        lambda: [event.data for event in stack.said() if isinstance(event.data, ArtifactBuilt)][1:], within_s=60
    )
    assert (again[0].digest, again[0].rebuilt) == (built.digest, False)
    eventually(lambda: sum(isinstance(event.data, RolloutSucceeded) for event in stack.said()) == 2, within_s=60)
    installs = Counter(event.data.device for event in stack.said() if isinstance(event.data, InstallObserved))
    assert installs == verified
