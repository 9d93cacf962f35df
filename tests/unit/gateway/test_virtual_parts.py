"""The parts of a virtual board that need neither flash nor network."""

from pathlib import Path

import numpy as np
import pytest

from device_gateway.virtual.ledger import Ledger
from device_gateway.virtual.sensor import Surroundings
from device_gateway.virtual.telemetry import TelemetryLog
from device_gateway.virtual.world import Playlist, World, WorldError
from shared.emulation import FirmwareInfo
from shared.telemetry import DeviceReport

INFO = FirmwareInfo(
    model_digest="sha256:" + "0" * 64,
    input_bytes=6,
    output_bytes=3,
    input_scale=0.1,
    input_zero_point=0,
    output_scale=1 / 256,
    output_zero_point=-128,
)
WINDOW = np.array([[-128, 0], [127, 0], [0, 8]], np.int8)


def write_world(path: Path, **changes: object) -> Path:
    arrays = {
        "x": np.arange(24, dtype=np.float32).reshape(8, 3, 1),
        "y": np.arange(8),
        "group": np.array([1, 1, 1, 2, 2, 2, 3, 3]),
        "environment": np.array(["right", "right", "left", "right", "left", "left", "right", "right"]),
    }
    np.savez(path, **(arrays | changes))  # type: ignore[arg-type]
    return path


def test_boards_are_assigned_to_people_round_robin(tmp_path: Path) -> None:
    world = World(write_world(tmp_path / "world.npz"))
    assert world.environments == ("right", "left")
    labels = [{Playlist(world, board, 0).next("right").label for _ in range(1)} for board in range(4)]  # type: ignore[union-attr]
    assert labels[0] <= {0, 1}
    assert labels[1] == {3}
    assert labels[2] <= {6, 7}
    assert labels[3] <= {0, 1}


def test_a_playlist_repeats_its_persons_windows_in_a_seeded_order(tmp_path: Path) -> None:
    world = World(write_world(tmp_path / "world.npz"))

    def play(seed: int) -> list[int]:
        playlist = Playlist(world, 1, seed)
        return [window.label for _ in range(8) if (window := playlist.next("left")) is not None]

    assert play(1) == play(1)
    assert set(play(1)) == {4, 5}
    assert Playlist(world, 2, 0).next("left") is None


@pytest.mark.parametrize(
    ("changes", "message"), [({"y": np.arange(7)}, "y has 7 rows"), ({"x": np.zeros((0, 3, 1))}, "x has 0 rows")]
)
def test_a_broken_world_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        World(write_world(tmp_path / "world.npz", **changes))


def test_a_file_that_is_no_world_is_refused(tmp_path: Path) -> None:
    (tmp_path / "world.npz").write_bytes(b"nothing")
    with pytest.raises(WorldError, match="no readable"):
        World(tmp_path / "world.npz")


def test_an_unknown_environment_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="right, left"):
        World(write_world(tmp_path / "world.npz")).check_environment("up")


def test_boards_stay_where_they_are_when_the_process_starts_again(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    surroundings = Surroundings.resume(file, ("right", "left"))
    assert surroundings.environment == "right"
    surroundings.move_to("left")
    assert Surroundings.resume(file, ("right", "left")).environment == "left"
    assert Surroundings.resume(file, ("up",)).environment == "up"
    assert Surroundings.resume(file, ()).environment == ""


def observe(log: TelemetryLog, image_hash: str = "aa", scores: tuple[int, int, int] = (-128, 127, -100)) -> int:
    return log.observe(image_hash, INFO, WINDOW, np.array(scores, np.int8).tobytes())


def read(log: TelemetryLog, after: int) -> tuple[str, DeviceReport, bool]:
    found = log.read(after)
    assert found is not None
    return found


def test_a_report_counts_predictions_inputs_and_confidence(tmp_path: Path) -> None:
    log = TelemetryLog(tmp_path / "sequence")
    assert observe(log) == 1
    assert observe(log, scores=(0, -128, -128)) == 0
    image_hash, report, more = read(log, 0)
    assert (image_hash, report.sequence, report.inferences, more) == ("aa", 1, 2, False)
    assert list(report.class_counts) == [1, 1, 0]
    assert [sum(histogram.counts) for histogram in report.inputs] == [6, 6]
    assert (report.inputs[0].counts[0], report.inputs[0].counts[31], report.inputs[1].counts[17]) == (2, 2, 2)
    assert (report.confidence.counts[31], report.confidence.counts[16]) == (1, 1)


def test_a_report_repeats_until_it_is_stored_and_counts_go_into_the_next(tmp_path: Path) -> None:
    log = TelemetryLog(tmp_path / "sequence")
    observe(log)
    first = read(log, 0)
    observe(log)
    observe(log)
    assert read(log, 0) == first
    _, second, _ = read(log, 1)
    assert (second.sequence, second.inferences) == (2, 2)
    assert log.read(2) is None


def test_a_report_never_spans_two_images(tmp_path: Path) -> None:
    log = TelemetryLog(tmp_path / "sequence")
    observe(log, "aa")
    observe(log, "bb")
    image_hash, report, more = read(log, 0)
    assert (image_hash, report.inferences, more) == ("aa", 1, False)
    image_hash, report, _ = read(log, 1)
    assert (image_hash, report.inferences) == ("bb", 1)


def test_sequences_never_repeat_after_a_power_cut_nor_on_new_flash(tmp_path: Path) -> None:
    log = TelemetryLog(tmp_path / "sequence")
    observe(log)
    read(log, 0)
    log.lose()
    again = TelemetryLog(tmp_path / "sequence")
    observe(again)
    assert read(again, 0)[1].sequence == 2
    fresh = TelemetryLog(tmp_path / "other")
    observe(fresh)
    assert read(fresh, 40)[1].sequence == 41


def test_what_is_not_read_is_bounded(tmp_path: Path) -> None:
    log = TelemetryLog(tmp_path / "sequence")
    for number in range(100):
        observe(log, str(number))
    assert len(log._closed) == 16


def test_the_ledger_aggregates_by_environment_image_and_device() -> None:
    ledger = Ledger()
    for correct in (True, False, True):
        ledger.record("left", "aa", "board-1", correct=correct)
    ledger.record("right", "aa", "board-1", correct=True)
    assert ledger.rows() == [
        {"environment": "left", "image_hash": "aa", "device": "board-1", "correct": 2, "total": 3},
        {"environment": "right", "image_hash": "aa", "device": "board-1", "correct": 1, "total": 1},
    ]
    ledger.reset()
    assert ledger.rows() == []
