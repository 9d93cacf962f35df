import pytest

from services.artifact_builder.domain import over_time_budget
from shared.boards import image_board
from shared.releases.manifest import Budget
from shared.releases.manifest_loader import ManifestError, parse_manifest

MANIFEST = """
version: 1
name: Gestures
labels: [up, down]
input: {{shape: [8, 1], minimum: -1, maximum: 1}}
data: {{train: {{path: train.npz}}, test: {{path: test.npz}}}}
model: {{file: model.keras}}
boards: [{board}]
budgets: {{{board}: {budget}}}
gates: {{accuracy: 0.5}}
"""


def test_each_budget_that_is_exceeded_names_board_value_basis_and_key() -> None:
    board = image_board("cortex-m4")
    latency, energy = over_time_budget(Budget(latency_ms=1, energy_uj=1), board, 640_000)
    assert "cortex-m4 takes 12 ms, modelled (640,000 instructions x 1.2 cycles at 64 MHz, ± 30%; " in latency
    assert "allowed are 1 (budgets.cortex-m4.latency_ms)" in latency
    assert "cortex-m4 takes 211 µJ, modelled (modelled latency x 64 MHz x 275 pJ a cycle of NUCLEO-L4R5ZI-P" in energy
    assert "(budgets.cortex-m4.energy_uj)" in energy
    assert over_time_budget(Budget(latency_ms=12.1, energy_uj=212), board, 640_000) == []
    assert over_time_budget(None, board, 10**9) == []


def test_a_budget_of_energy_without_a_published_run_is_refused() -> None:
    with pytest.raises(
        ManifestError, match=r"cortex-m0plus\.energy_uj: .*nobody has published .*cortex-m33, cortex-m4, "
    ):
        parse_manifest(MANIFEST.format(board="cortex-m0plus", budget="{energy_uj: 10}"))


@pytest.mark.parametrize("board", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_a_budget_of_energy_is_taken_where_a_run_is_published(board: str) -> None:
    assert parse_manifest(MANIFEST.format(board=board, budget="{energy_uj: 10}")).budgets[board].energy_uj == 10


def test_a_budget_of_time_for_a_board_that_gets_a_library_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"latency_ms: .*arduino-nano-33-ble-sense gets a library"):
        parse_manifest(MANIFEST.format(board="arduino-nano-33-ble-sense", budget="{latency_ms: 10}"))


def test_a_budget_of_time_for_an_emulated_board_is_taken() -> None:
    assert parse_manifest(MANIFEST.format(board="cortex-m4", budget="{latency_ms: 10}")).budgets["cortex-m4"]
