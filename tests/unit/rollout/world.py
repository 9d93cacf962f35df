"""A fleet to play rollouts on: what boards really run, and what their gateway says of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid5

from services.rollout_controller.domain import (
    Candidate,
    Decision,
    Image,
    Order,
    Policy,
    Project,
    Say,
    StageRule,
    accept_release,
    observe_device,
    observe_install,
    pass_time,
)
from shared.events import Payload
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome
from shared.events.lab import BoardClass

P = TypeVar("P", bound=Payload)
START = datetime(2026, 3, 1, tzinfo=UTC)
FACTORY = Image(None, "f" * 64, "0.9.0")
BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7")
STAGES = (StageRule("canary", devices=2), StageRule("quarter", percent=25), StageRule("all", percent=100))


def digest_of(release: int) -> str:
    return f"sha256:{release:064x}"


def image_of(release: int, board: str) -> Image:
    return Image(digest_of(release), f"{BOARDS.index(board):04x}{release:060x}", f"{release}.0.0")


def candidate_of(
    release: int,
    *,
    attempt: int = 0,
    budget: float = 0.05,
    stages: tuple[StageRule, ...] = STAGES,
    boards: tuple[str, ...] = BOARDS,
) -> Candidate:
    return Candidate(
        rollout_id=uuid5(UUID(int=1), f"{release}/{attempt}"),
        run_id=uuid5(UUID(int=2), f"{release}/{attempt}"),
        digest=digest_of(release),
        policy=Policy(stages, budget, install_deadline_s=60),
        firmware={board: image_of(release, board) for board in boards},
    )


def board_of(device: str) -> str:
    return BOARDS[int(device.removeprefix("watch-")) % len(BOARDS)]


@dataclass
class World:
    """A project's state, its boards, and everything decided so far."""

    state: Project = field(default_factory=lambda: Project("watches"))
    now: datetime = START
    boards: dict[str, Image] = field(default_factory=dict)
    said: list[Payload] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    def apply(self, outcome: tuple[Project, list[Decision]]) -> list[Decision]:
        self.state, decisions = outcome
        self.said += [decision.payload for decision in decisions if isinstance(decision, Say)]
        self.orders += [decision for decision in decisions if isinstance(decision, Order)]
        return decisions

    def join(self, count: int) -> None:
        for _ in range(count):
            device = f"watch-{len(self.boards)}"
            self.boards[device] = FACTORY
            self.report(device)
        self.wait(5)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += timedelta(seconds=1)
            self.apply(pass_time(self.state, self.now))

    def accept(self, candidate: Candidate) -> None:
        self.apply(accept_release(self.state, candidate, self.now))

    def report(self, device: str, state: DeviceState = DeviceState.CONFIRMED) -> None:
        self.apply(observe_device(self.state, self.report_of(device, state), self.now))

    def report_of(self, device: str, state: DeviceState = DeviceState.CONFIRMED) -> DeviceReported:
        image = self.boards[device]
        return DeviceReported(
            project="watches",
            device=device,
            gateway="rack",
            board=board_of(device),
            board_class=BoardClass.VIRTUAL,
            state=state,
            digest=image.digest,
            image_hash=image.image_hash,
            version=image.version,
            observed_at=self.now,
        )

    def answer(self, order: Order, outcome: InstallOutcome = InstallOutcome.VERIFIED) -> None:
        if outcome is InstallOutcome.VERIFIED:
            self.boards[order.device] = order.image
        self.apply(observe_install(self.state, self.answer_of(order, outcome), self.now, self.now))

    def answer_of(self, order: Order, outcome: InstallOutcome) -> InstallObserved:
        image, silent = self.boards[order.device], outcome is InstallOutcome.LOST
        return InstallObserved(
            project="watches",
            rollout_id=order.rollout_id,
            device=order.device,
            gateway="rack",
            outcome=outcome,
            wanted=order.image.digest,
            observed=None if silent else image.digest,
            observed_hash="" if silent else image.image_hash,
            confirmed=not silent,
            fencing_token=order.token,
            seconds=1.0,
            detail="" if outcome is InstallOutcome.VERIFIED else f"{outcome} for a reason",
        )

    def open_orders(self) -> list[Order]:
        """The newest order of each device that the rollout under way still waits for."""
        active = self.state.active
        if active is None:
            return []
        return [
            order
            for order in self.orders
            if order.rollout_id == active.candidate.rollout_id
            and (target := active.targets[order.device]).token == order.token
            and target.state in {"ordered", "restoring"}
        ]

    def obey(self) -> None:
        """Let every order succeed until nothing is ordered any more."""
        while orders := self.open_orders():
            self.answer(orders[0])

    def types(self) -> list[str]:
        return [type(payload).__name__ for payload in self.said]

    def last(self, kind: type[P]) -> P:
        return [payload for payload in self.said if isinstance(payload, kind)][-1]
