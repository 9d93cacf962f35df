"""What the place of a held board is told next, and what its answer means. All of it may be said twice."""

from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias

from services.device_lab_scheduler.domain.health import Seen, identity_trouble
from services.device_lab_scheduler.domain.leasing import renew
from services.device_lab_scheduler.domain.ledger import Ledger
from services.device_lab_scheduler.domain.records import BoardRecord, Held, PlaceRecord, is_known
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.running import Ending, board_of, ended_on, wait_again
from shared.bus.exchanges import RefusedError
from shared.lab import AttemptOutcome, LeaseLostError
from shared.lab.messages import (
    Announced,
    AskProgress,
    Begin,
    Grant,
    OfferedBoard,
    Progress,
    RefusalKind,
    Shut,
    WorkState,
)

Saying: TypeAlias = Grant | Begin | AskProgress | Shut
RESTORED: Final = 1000
"""By how much tokens jump when a place knows a newer one: the desk's database is a restored copy."""


def next_saying(ledger: Ledger, board: BoardRecord, now_s: float) -> Saying | None:
    """Return what the board's place has to hear next; None: nothing."""
    held, place = board.held, ledger.places.get(board.place)
    if held is None or place is None:
        return None
    lease = held.lease
    if held.over:
        return Shut(board=board.name, token=lease.token)
    if now_s >= lease.deadline_s:
        # Its fence has shut, but what the work came to in time is still known there.
        return AskProgress(board=board.name, token=lease.token) if held.begun else None
    if not held.let_in(place.epoch) or held.told_s < lease.deadline_s:
        return Grant(board=board.name, token=lease.token, ttl_s=lease.deadline_s - now_s)
    return _work_on(board, held)


def _work_on(board: BoardRecord, held: Held) -> Saying | None:
    if held.work is None:
        return None
    if not held.begun:
        return Begin(board=board.name, token=held.lease.token, work=held.work)
    return AskProgress(board=board.name, token=held.lease.token)


def told(ledger: Ledger, saying: Saying, deadline_s: float, epoch: str) -> None:
    """Note that the place took it. `deadline_s` and `epoch` are those when it was said."""
    board = board_of(ledger, saying.board, saying.token)
    if board is None or board.held is None:
        return
    if isinstance(saying, Shut):
        ledger.put_board(replace(board, held=None))
    elif isinstance(saying, Grant):
        ledger.put_board(replace(board, held=replace(board.held, epoch=epoch, told_s=deadline_s)))
    elif isinstance(saying, Begin) and not board.held.over:
        flashing = replace(board.held.lease, flashing=True)
        ledger.put_board(replace(board, held=replace(board.held, begun=True, lease=flashing)))


def refused(ledger: Ledger, rules: Rules, saying: Saying, no: RefusedError, now_s: float) -> None:
    """Note that the place would not. Nothing of it is the firmware's fault or the board's."""
    board = board_of(ledger, saying.board, saying.token)
    if board is None or board.held is None:
        return
    if isinstance(saying, Shut):
        # It has no such board any more: there is nothing to shut.
        ledger.put_board(replace(board, held=None))
        return
    if isinstance(saying, Grant) and no.code == RefusalKind.STALE_TOKEN and not board.held.epoch:
        _outdated(ledger, board, board.held)
        return
    ended_on(ledger, rules, saying.board, Ending(AttemptOutcome.LAB, f"{board.place}: {no}"), now_s)


def _outdated(ledger: Ledger, board: BoardRecord, held: Held) -> None:
    """The place knows a newer token, and never let this one in: it was no try."""
    ledger.put_board(replace(board, token=board.token + RESTORED, held=held.ended()))
    job = ledger.running.get(held.lease.job)
    if job is not None:
        wait_again(ledger, job)


def heard(ledger: Ledger, rules: Rules, asked: AskProgress, progress: Progress, now_s: float) -> None:
    """Note how far the work is: renew its lease while it goes on, and end it when it has ended."""
    board = board_of(ledger, asked.board, asked.token)
    if board is None or board.held is None or board.held.over:
        return
    if progress.state is WorkState.ENDED:
        ending = Ending(progress.outcome or AttemptOutcome.LAB, progress.said, progress.report)
        ended_on(ledger, rules, board.name, ending, now_s)
    elif progress.state is WorkState.NONE:
        ended_on(ledger, rules, board.name, Ending(AttemptOutcome.LAB, f"{board.place} forgot the work"), now_s)
    else:
        flashing = progress.state is WorkState.FLASHING
        ledger.put_board(replace(board, held=_renewed(board.held, rules, now_s, flashing=flashing)))


def _renewed(held: Held, rules: Rules, now_s: float, *, flashing: bool) -> Held:
    lease = replace(held.lease, flashing=flashing)
    if lease.deadline_s - now_s < 2 / 3 * rules.policy.ttl_s:
        with suppress(LeaseLostError):  # the next pass ends what ran out, and says so
            lease = renew(lease, lease.board, lease.token, now_s, rules.policy)
    return replace(held, lease=lease)


def announced(ledger: Ledger, rules: Rules, said: Announced, now_s: float) -> list[str]:
    """Note which boards a place has in hand. Return what is wrong with what it said, for its operator."""
    before = ledger.places.get(said.place)
    if before is None or before.epoch != said.epoch:
        ledger.put_place(PlaceRecord(said.place, said.epoch))
        _forgotten(ledger, rules, said, now_s)
    offered = {board.name: board for board in said.boards}
    wrong = []
    for board in ledger.at(said.place):
        if board.name not in offered and board.present:
            _vanished(ledger, rules, board, now_s)
    for one in said.boards:
        wrong += _offered(ledger, rules, said.place, one, now_s)
    return wrong


def _forgotten(ledger: Ledger, rules: Rules, said: Announced, now_s: float) -> None:
    """A new agent: its fence is empty, so that nobody is let in. Work is lost, a person is let in again."""
    for board in ledger.at(said.place):
        if board.held is None or board.held.epoch == said.epoch:
            continue
        if board.held.over:
            ledger.put_board(replace(board, held=None))
        elif board.held.begun:
            lost = Ending(AttemptOutcome.LAB, f"the agent of {said.place} was started anew")
            ended_on(ledger, rules, board.name, lost, now_s, fence_is_shut=True)


def _vanished(ledger: Ledger, rules: Rules, board: BoardRecord, now_s: float) -> None:
    ledger.put_board(replace(board, present=False))
    if board.held is not None:
        gone = Ending(AttemptOutcome.DISAPPEARED, f"{board.place} has it in hand no more")
        ended_on(ledger, rules, board.name, gone, now_s)
    else:
        ledger.put_board(ledger.boards[board.name].seen(Seen.LEFT_ALONE, now_s, rules.health, "it was away"))


def _offered(ledger: Ledger, rules: Rules, place: str, offered: OfferedBoard, now_s: float) -> list[str]:
    if not is_known(offered):
        return [f"{place}: {offered.name} is a {offered.board!r}, which the catalogue does not have"]
    board = ledger.boards.get(offered.name)
    if board is None:
        ledger.put_board(
            BoardRecord(offered.name, place, offered.board, offered.board_class, offered.identity, offered.identity)
        )
        return []
    if board.place != place:
        if board.present or board.held is not None:
            return [f"{place}: {offered.name} already hangs at {board.place}; give one of them another name"]
        board = replace(board, place=place)
    present = bool(offered.identity) or not board.identity
    found = replace(board, kind=offered.board, board_class=offered.board_class, found=offered.identity, present=present)
    found = replace(found, identity=found.identity or offered.identity)
    trouble = identity_trouble(found.identity, offered.identity) if offered.identity else None
    if board.present and not present and board.held is None:
        found = found.seen(Seen.LEFT_ALONE, now_s, rules.health, "it was away")
    if trouble is AttemptOutcome.SWAPPED and board.held is None:
        reason = f"it says that it is {offered.identity}, and was {found.identity}"
        found = found.seen(Seen.UNTRUE, now_s, rules.health, reason)
    ledger.put_board(found)
    return []
