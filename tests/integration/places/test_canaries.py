"""The lab's canaries: right on every emulated board, and made by their command bit by bit."""

from pathlib import Path

import pytest

from edgeloop.canaries import facts_of, made_for
from shared.boards import image_board, image_boards
from shared.canaries import canary, facts, keep_canaries
from shared.emulation.emulators import Emulator
from shared.emulation.mcuboot_image import read_image
from shared.places.procedure import run_procedure
from shared.procedures import Effort
from shared.procedures.rig import emulated_rig
from shared.procedures.staging import read_run
from shared.procedures.workloads import read_workload
from tests.data.gestures.release import MemoryBlobs

BOARDS = sorted(image_boards())


@pytest.mark.parametrize("name", BOARDS)
def test_a_canary_answers_bit_by_bit_as_tflm_does(name: str) -> None:
    found, board = canary(name), image_board(name)
    assert read_image(found.image).board == name
    ended = run_procedure("staging", (found.workload, Effort()), emulated_rig(found.image, board, Emulator.UNICORN))
    run = read_run(ended.report)
    assert (ended.passed, run.inputs, run.mismatches) == (True, len(facts().inputs), 0), ended.said


def test_what_canaries_have_to_answer_is_what_tflm_answers() -> None:
    known = facts()
    assert facts_of(dict(known.sources), known.toolchain) == known
    assert sorted(known.sources) == BOARDS


@pytest.mark.parametrize("name", BOARDS)
def test_a_canary_is_made_by_its_command_bit_by_bit(name: str, tmp_path: Path) -> None:
    image, sources, toolchain = made_for(image_board(name), tmp_path)
    if (sources, toolchain) != (facts().sources[name], facts().toolchain):
        pytest.skip(
            "the canaries are of an older firmware, which is right as they are fixed; "
            "`python -m edgeloop.canaries` renews them"
        )
    assert image == canary(name).image


async def test_canaries_are_kept_where_places_fetch_them() -> None:
    blobs = MemoryBlobs()
    works = await keep_canaries(blobs)
    assert sorted(works) == BOARDS
    for name, work in works.items():
        workload, _ = read_workload(await blobs.get(work.workload))
        assert workload.board.name == name
        assert read_image(await blobs.get(work.image)).model_digest == workload.model_digest
