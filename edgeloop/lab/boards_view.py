"""The lab's boards as a table, and which of them meet a requirement."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.lab.times import said
from shared.boards import catalogue
from shared.lab import Health, Requirement, RequirementError, parse_requirement
from shared.lab.board import traits_of
from shared.lab.messages import BoardView

_STYLES: Final = {
    Health.GOOD: "green",
    Health.SUSPECT: "yellow",
    Health.PROBATION: "yellow",
    Health.QUARANTINED: "bold red",
    Health.MAINTENANCE: "cyan",
    Health.RETIRED: "dim",
}


def requirement_of(text: str, option: str = "--need") -> Requirement:
    """Read a requirement that a user wrote.

    Raises:
        UsageError: nobody can read it.
    """
    try:
        return parse_requirement(text)
    except RequirementError as error:
        message, _, next_step = str(error).partition(" Next: ")
        raise UsageError(f"{option} {text!r}: {message}", next_step=next_step) from error


def meeting(boards: Iterable[BoardView], need: Requirement) -> tuple[BoardView, ...]:
    """Return the boards that meet a requirement; of one that this catalogue does not have nothing is known."""
    known = catalogue()
    return tuple(
        board
        for board in boards
        if not need.predicates
        or (board.board in known and need.holds(traits_of(known[board.board], board.place, board.board_class)))
    )


def board_table(boards: Sequence[BoardView]) -> Table:
    """Return one line a board, by name."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("name", "board", "place", "class", "health", "held by", "left", "canary", "why"):
        table.add_column(name, no_wrap=name != "why")
    for board in sorted(boards, key=lambda each: each.name):
        table.add_row(
            board.name,
            board.board,
            board.place if board.live else Text(f"{board.place} (silent)", "red"),
            board.board_class,
            Text(board.health, _STYLES[board.health]),
            _holder(board),
            said(board.lease_left_s) if board.job else "",
            _canary(board),
            board.reason,
        )
    return table


def _holder(board: BoardView) -> str:
    if not board.job:
        return ""
    return f"{board.holder or board.project} ({board.job})" if board.holder or board.project else board.job


def _canary(board: BoardView) -> Text:
    jobs = f"{board.jobs_since_canary} job{'' if board.jobs_since_canary == 1 else 's'} ago"
    return Text("due", "yellow") if board.canary_due else Text(jobs, "dim")
