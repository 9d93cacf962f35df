"""What operators see of the lab: rows from messages, and no clock."""

from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from edgeloop.errors import ExitCode, UsageError
from edgeloop.lab import boards_view, jobs_view
from edgeloop.lab.history_view import history_table, read_all
from edgeloop.lab.keeping import LONGEST_S, SHORTEST_S, pause_s
from edgeloop.lab.reserving import demands_of, seconds_of
from edgeloop.lab.times import said
from edgeloop.lab.trends import gated_trends, spark, trend_view
from shared.interop.signed_results import unsigned_result
from shared.lab import AttemptOutcome, Health, JobKind, VerdictKind
from shared.lab.messages import AttemptView, HeldBoard, Jobs, JobState, JobView
from tests.integration.cli.small_desk import board_view
from tests.support_interop import job_result

WAITING = JobView(
    id="j1",
    project="gestures",
    kind=JobKind.TEST,
    state=JobState.WAITING,
    demands=("core in cortex-m4", "core in cortex-m4"),
    priority=0,
    age_s=90,
    waits_for="a board in good health",
    bound_s=3690.0,
)


def job(**changes: Any) -> JobView:
    return WAITING.model_copy(update=changes)


def text(drawn: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=240, color_system=None).print(drawn)
    return out.getvalue()


def line_of(drawn: RenderableType, word: str) -> list[str]:
    (line,) = [line for line in text(drawn).splitlines() if word in line]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (-3, "0 s"), (119.4, "119 s"), (120, "2 min 00 s"), (3600, "1 h 00 min"), (200_000, "2 d 7 h")],
)
def test_durations_are_said_in_the_units_that_matter(seconds: float | None, words: str) -> None:
    assert said(seconds) == words


def test_a_board_says_who_holds_it_and_for_how_long() -> None:
    held = board_view("m4-1", job="r-1", project="people", holder="ada@desk", lease_left_s=61, canary_due=True)
    cells = ["m4-1", "cortex-m4", "bench", "emulated", "good", "ada@desk (r-1)", "61 s", "due"]
    assert line_of(boards_view.board_table([held]), "m4-1") == cells


def test_a_board_of_a_silent_place_and_why_it_is_not_trusted_are_seen() -> None:
    lost = board_view("m4-2", live=False, health=Health.QUARANTINED, reason="another board hung there")
    line = line_of(boards_view.board_table([lost]), "m4-2")
    assert "bench (silent)" in line
    assert line[-1] == "another board hung there"


def test_boards_are_ordered_by_name_and_need_no_catalogue_unless_something_is_asked_of_them() -> None:
    unknown = board_view("b", board="some-newer-board")
    boards = [unknown, board_view("a")]
    assert text(boards_view.board_table(boards)).index("a ") < text(boards_view.board_table(boards)).index("b ")
    assert boards_view.meeting(boards, boards_view.requirement_of("any")) == tuple(boards)
    assert boards_view.meeting(boards, boards_view.requirement_of("ram>=64k")) == (boards[1],)


def test_a_waiting_job_says_what_for_and_how_long_at_most() -> None:
    assert line_of(jobs_view.job_table(Jobs(jobs=(WAITING,), waiting=1)), "j1") == [
        "j1",
        "gestures",
        "test",
        "· waiting",
        "90 s",
        "1 h 00 min",
        "a board in good health",
    ]
    shown = text(jobs_view.job_tree(WAITING))
    assert "needs 2 of core in cortex-m4" in shown
    assert "starts within 1 h 00 min, whatever others submit" in shown


def test_a_job_that_no_live_board_can_serve_says_so() -> None:
    hopeless = job(bound_s=None)
    assert "no live board" in text(jobs_view.job_table(Jobs(jobs=(hopeless,), waiting=1)))
    assert "`edgeloop lab boards` shows why" in text(jobs_view.job_tree(hopeless))


def test_a_flaky_pass_keeps_its_label_and_its_attempts() -> None:
    attempts = (
        AttemptView(board="m4-1", token=3, outcome=AttemptOutcome.HANG, canary_passed=False, said="no answer"),
        AttemptView(board="m4-2", token=5, outcome=AttemptOutcome.PASSED),
    )
    flaky = job(state=JobState.ENDED, verdict=VerdictKind.FLAKY, attempts=attempts)
    assert "✔ flaky" in text(jobs_view.job_table(Jobs(jobs=(flaky,), waiting=0)))
    shown = text(jobs_view.job_tree(flaky))
    assert "✘ 1. m4-1: hang, its canary failed too: the board's fault  no answer" in shown
    assert "✔ 2. m4-2: passed" in shown
    assert jobs_view.exit_code_of(flaky) is ExitCode.OK
    assert jobs_view.why(flaky) == "no answer"
    assert jobs_view.tally(attempts * 2) == "2 hang, 2 passed"


def test_a_lease_at_its_cap_says_so() -> None:
    lease = HeldBoard(board="m4-1", place="bench", token=4, left_s=30, cap_left_s=30)
    assert text(jobs_view.lease_line(lease)).strip() == (
        "▶ m4-1 at bench, token 4  30 s left unless renewed, 30 s in all, the longest that it may last"
    )


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.RUNNING])
def test_a_job_that_has_not_ended_is_no_failure(state: JobState) -> None:
    assert jobs_view.exit_code_of(job(state=state)) is ExitCode.OK


def test_a_job_that_ended_without_a_verdict_judged_nothing() -> None:
    assert jobs_view.exit_code_of(job(state=JobState.ENDED)) is ExitCode.INFRASTRUCTURE


@given(st.floats(min_value=-10, max_value=1e6))
def test_a_renewal_leaves_room_for_two_that_fail(left_s: float) -> None:
    assert SHORTEST_S <= pause_s(left_s) <= LONGEST_S
    assert 3 * pause_s(left_s) <= max(left_s * (1 + 1e-9), 3 * SHORTEST_S)


@pytest.mark.parametrize(
    ("words", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2 min", 120)]
)
def test_durations_are_read(words: str, seconds: float) -> None:
    assert seconds_of(words, "--for") == seconds


@pytest.mark.parametrize("words", ["", "soon", "0m", "-1s", "1d"])
def test_what_is_no_duration_is_refused_with_an_example(words: str) -> None:
    with pytest.raises(UsageError, match="--for") as refused:
        seconds_of(words, "--for")
    assert refused.value.next_step == "write it like --for 30m"


def test_each_need_is_asked_so_many_times() -> None:
    assert demands_of([], [], 2) == ("any", "any")
    assert demands_of(["ram>=64k", "any"], ["cortex-m4", "cortex-m7"], 2) == (
        "board in cortex-m4,cortex-m7; ram>=65536",
        "board in cortex-m4,cortex-m7",
        "board in cortex-m4,cortex-m7; ram>=65536",
        "board in cortex-m4,cortex-m7",
    )


def test_history_shows_each_step_and_stops_one_that_is_too_large() -> None:
    results = [job_result(0), job_result(1, instructions=1_000_900), job_result(2, instructions=1_003_000)]
    found = read_all([unsigned_result(result).decode() for result in reversed(results)], [])
    assert "+0.090%" in line_of(history_table(found), "job-1")
    (gated,) = gated_trends(found.counted)
    assert (gated.trend.counts, gated.gate.outcome) == ((1_000_000, 1_000_900, 1_003_000), "failed")
    shown = text(trend_view([gated]))
    assert "+0.300%" in shown
    assert "1,003,000 instructions (+0.210%); allowed is 1,000,900 +0.1% (job job-1)" in shown
    assert found.warnings == ("3 of 3 results are unsigned: the lab had no key to sign it with",)


def test_a_document_that_is_no_result_is_told_and_left_out() -> None:
    found = read_all(["{}", unsigned_result(job_result()).decode()], [])
    assert len(found.read) == 1
    assert "no job's result" in found.warnings[-1]


@given(st.lists(st.integers(min_value=0), min_size=1))
def test_the_least_and_the_most_are_the_ends_of_the_bars(counts: list[int]) -> None:
    bars = spark(counts)
    assert len(bars) == len(counts)
    assert bars[counts.index(min(counts))] == "▁"
    assert bars[counts.index(max(counts))] == ("▁" if min(counts) == max(counts) else "█")
