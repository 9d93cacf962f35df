"""Latency and energy from counted instructions: the arithmetic, and what is said beside the numbers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.boards import ImageBoard, board_named, image_board, image_boards
from shared.boards.modelling import Figure, modelled_energy, modelled_latency
from shared.events.lab import Origin


def test_latency_is_instructions_times_cycles_over_the_clock() -> None:
    latency = modelled_latency(64_000_000, image_board("cortex-m4"))
    assert latency.value == pytest.approx(1200)
    assert latency.origin is Origin.MODELLED
    assert "64,000,000 instructions x 1.2 cycles at 64 MHz, ± 30%" in latency.basis


def test_the_published_run_itself_is_reproduced_at_its_own_clock() -> None:
    board = image_board("cortex-m4")
    run = board.published_run
    assert run is not None
    at_its_clock = board.model_copy(update={"clock_hz": run.clock_hz})
    energy = modelled_energy(Figure(run.latency_ms, Origin.MEASURED, "a timer"), at_its_clock)
    assert energy.value == pytest.approx(run.energy_uj)
    assert energy.basis.startswith("measured latency x 120 MHz x 275 pJ a cycle of NUCLEO-L4R5ZI-P")
    assert run.milliwatts == pytest.approx(32.95, abs=0.01)


@given(st.integers(1, 10**10), st.sampled_from([b for b in image_boards().values() if b.published_run]))
def test_energy_follows_cycles_and_not_the_clock(instructions: int, board: ImageBoard) -> None:
    slow = board.model_copy(update={"clock_hz": 1_000_000})
    fast, slower = (modelled_energy(modelled_latency(instructions, b), b).value for b in (board, slow))
    assert fast == pytest.approx(slower)


@pytest.mark.parametrize("name", ["cortex-m0plus", "arduino-nano-33-iot"])
def test_without_a_published_run_there_is_no_energy_and_a_reason(name: str) -> None:
    energy = modelled_energy(Figure(10.0, Origin.MODELLED, "a count"), board_named(name))
    assert energy.value is None
    assert energy.basis == "nobody has published energy and latency of a run on cortex-m0plus"


def test_without_a_latency_there_is_no_energy() -> None:
    energy = modelled_energy(Figure(None, Origin.MODELLED, "no count"), image_board("cortex-m4"))
    assert (energy.value, energy.basis) == (None, "there is no latency: no count")


def test_in_json_the_number_stands_alone_and_its_origin_beside_it() -> None:
    fields = json.loads(json.dumps(Figure(75.48056789, Origin.MODELLED, "because").fields("latency_ms")))
    assert fields == {"latency_ms": 75.4806, "latency_ms_class": "modelled", "latency_ms_basis": "because"}


def test_every_image_board_says_where_its_factor_comes_from() -> None:
    for board in image_boards().values():
        assert board.timing.basis
        assert 0 < board.timing.uncertainty < 1
        assert board.published_run is None or board.published_run.source.startswith("https://")
