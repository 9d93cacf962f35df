"""What a board did, and whether a release may leave the lab with it."""

from dataclasses import replace
from typing import Any

import pytest

from services.device_lab_scheduler.domain.acceptance import Expectation, judge_candidate
from shared.boards import image_board
from shared.events import CheckOutcome
from shared.events.lab import CandidateAccepted, CandidateRefused, Numerics, Origin, Parity
from shared.procedures.parity import Mismatch
from shared.procedures.staging import BoardRun, SecondOpinion
from shared.releases.manifest import Budget, Gates

DIGEST = "sha256:" + "a" * 64
MODEL = "sha256:" + "b" * 64
M4 = image_board("cortex-m4")
EXPECTED = Expectation(
    board=M4,
    budget=Budget(ram_bytes=20_000),
    gates=Gates(accuracy=0.8),
    model_digest=MODEL,
    golden_output=b"\x01\x02",
    flash_bytes=30_000,
    static_ram_bytes=9_000,
)
RUN = BoardRun(
    board="cortex-m4",
    emulator="unicorn 2.1.4",
    model_digest=MODEL,
    golden_output=b"\x01\x02",
    instructions=1_000_000,
    inputs=100,
    correct=80,
    stack_bytes=700,
    seconds=1.5,
)


def outcome(run: BoardRun, expected: Expectation = EXPECTED) -> CandidateAccepted | CandidateRefused:
    return judge_candidate("gait", DIGEST, [(run, expected)])


def test_a_core_of_which_no_energy_is_published_has_none_and_says_so() -> None:
    m0 = image_board("cortex-m0plus")
    [board] = outcome(replace(RUN, board=m0.name), replace(EXPECTED, board=m0)).boards
    assert board.energy_uj is None
    assert "nobody has published" in board.energy_basis
    assert board.latency_ms is not None


def test_a_run_within_all_gates_is_accepted_with_its_measurements() -> None:
    accepted = outcome(RUN)
    assert isinstance(accepted, CandidateAccepted)
    (board,) = accepted.boards
    assert (board.flash_bytes, board.ram_bytes, board.stack_bytes) == (30_000, 9_700, 700)
    assert (board.instructions, board.accuracy, board.parity) == (1_000_000, 0.8, Parity.BIT_EXACT)
    assert board.latency_ms == pytest.approx(1_000_000 * M4.timing.cycles_per_instruction / M4.clock_hz * 1e3)
    assert (board.latency_class, board.energy_class) == (Origin.MODELLED, Origin.MODELLED)
    assert board.energy_uj is not None
    assert board.energy_uj > 0
    assert "1,000,000 instructions" in board.latency_basis


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"fault": "test row 3: bus fault at pc 0x00010344"}, "runs-cortex-m4", "pc 0x00010344"),
        ({"model_digest": DIGEST}, "model-cortex-m4", "build the commit again"),
        ({"golden_output": b"\x01\x03"}, "golden-cortex-m4", "allowed 0102"),
        ({"mismatches": 1, "first_mismatch": Mismatch(7, "0102", "0103")}, "parity-cortex-m4", "test row 7: 0103 inst"),
        ({"correct": 79}, "accuracy-cortex-m4", "0.7900 (79 of 100; 95 % interval 0.7002 to 0.8583)"),
        ({"stack_bytes": M4.stack_bytes}, "stack-cortex-m4", "less than the 8192 bytes"),
        ({"stack_bytes": 11_001}, "ram-cortex-m4", "1 bytes too many"),
        ({"inputs": 0, "correct": 0}, "parity-cortex-m4", "0 of 0"),
        ({"second_opinion": SecondOpinion("qemu 7.2", b"\x01\x03", 1_000_000)}, "cross-check-cortex-m4", "0103"),
        ({"second_opinion": SecondOpinion("qemu 7.2", b"\x01\x02", 1_100_000)}, "cross-check-cortex-m4", "1100000"),
    ],
)
def test_each_gate_refuses_and_says_why(change: dict[str, Any], check: str, says: str) -> None:
    refused = outcome(replace(RUN, **change))
    assert isinstance(refused, CandidateRefused)
    assert check in {answer.name for answer in refused.checks if answer.outcome is not CheckOutcome.PASSED}
    assert says in refused.reason


def test_no_answered_input_is_insufficient_evidence_and_not_parity() -> None:
    refused = outcome(replace(RUN, inputs=0, correct=0))
    by_name = {check.name: check.outcome for check in refused.checks}
    assert by_name["parity-cortex-m4"] is CheckOutcome.INSUFFICIENT_EVIDENCE


def test_a_release_of_libraries_alone_is_not_let_out_and_names_boards_that_would_run_it() -> None:
    refused = judge_candidate("gait", DIGEST, [])
    assert isinstance(refused, CandidateRefused)
    (check,) = refused.checks
    assert check.outcome is CheckOutcome.INSUFFICIENT_EVIDENCE
    assert "cortex-m0plus, cortex-m33, cortex-m4" in check.detail


def test_a_faulted_board_has_no_measurements_and_the_others_keep_theirs() -> None:
    other = replace(EXPECTED, board=image_board("cortex-m7"))
    faulted = BoardRun(board="cortex-m7", fault="no prompt")
    refused = judge_candidate("gait", DIGEST, [(RUN, EXPECTED), (faulted, other)])
    assert isinstance(refused, CandidateRefused)
    assert [board.board for board in refused.boards] == ["cortex-m4"]
    assert refused.reason.startswith("runs-cortex-m7: no prompt")


def test_a_second_opinion_near_enough_is_accepted() -> None:
    opinion = SecondOpinion("qemu 7.2", b"\x01\x02", 1_000_900)
    assert isinstance(outcome(replace(RUN, second_opinion=opinion)), CandidateAccepted)


def test_parity_names_the_numerics_that_the_release_was_built_with() -> None:
    refused = outcome(
        replace(RUN, mismatches=2, first_mismatch=Mismatch(7, "0102", "0103")),
        replace(EXPECTED, numerics=Numerics.LITERT),
    )
    parity = next(check for check in refused.checks if check.name == "parity-cortex-m4")
    assert parity.observed == "2 of 100 output vectors differ from litert"
    assert [board.numerics for board in refused.boards] == [Numerics.LITERT]
