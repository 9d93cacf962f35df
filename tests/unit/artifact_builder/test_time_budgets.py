import pytest

from services.artifact_builder.domain import modelled_energy_uj, modelled_latency_ms, over_time_budget
from shared.boards import Power, image_board
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
POWER = Power(active_ua_per_mhz=50, volts=3.0, conditions="from flash", source="data sheet")


def test_latency_is_modelled_from_instructions_and_clock() -> None:
    assert modelled_latency_ms(64_000_000, 64_000_000) == pytest.approx(1200)


def test_energy_is_the_makers_current_at_full_clock_for_the_modelled_latency() -> None:
    # 50 µA/MHz at 64 MHz and 3 V are 9.6 mW; for 10 ms that is 96 µJ.
    assert modelled_energy_uj(10, 64_000_000, POWER) == pytest.approx(96)


def test_each_budget_that_is_exceeded_names_board_value_and_key() -> None:
    board = image_board("cortex-m4").model_copy(update={"power": POWER})
    latency, energy = over_time_budget(Budget(latency_ms=1, energy_uj=1), board, 640_000)
    assert "cortex-m4 takes 12 ms, modelled from 640,000 counted instructions; allowed are 1 " in latency
    assert "(budgets.cortex-m4.latency_ms)" in latency
    assert "(budgets.cortex-m4.energy_uj)" in energy
    assert over_time_budget(Budget(latency_ms=12.1, energy_uj=200), board, 640_000) == []
    assert over_time_budget(None, board, 10**9) == []


def test_a_budget_of_energy_without_a_published_power_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"budgets\.cortex-m4\.energy_uj: .*no published power of cortex-m4"):
        parse_manifest(MANIFEST.format(board="cortex-m4", budget="{energy_uj: 10}"))


def test_a_budget_of_time_for_a_board_that_gets_a_library_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"latency_ms: .*arduino-nano-33-ble-sense gets a library"):
        parse_manifest(MANIFEST.format(board="arduino-nano-33-ble-sense", budget="{latency_ms: 10}"))


def test_a_budget_of_time_for_an_emulated_board_is_taken() -> None:
    assert parse_manifest(MANIFEST.format(board="cortex-m4", budget="{latency_ms: 10}")).budgets["cortex-m4"]
