"""Parts of `edgeloop lab test` that need no board."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgeloop.compiling import board_of
from edgeloop.errors import UsageError
from edgeloop.lab.curves import csv_of, curves_of, svg_of, write_curves
from edgeloop.lab.subject import Wish, chosen, sensor_windows, sensors_of
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.procedures import Report
from shared.procedures.acceptance import Score
from shared.procedures.perturbations import PERTURBATIONS
from shared.procedures.variability import Point, _row
from shared.releases.release import Quantisation

Q = Quantisation(scale=0.1, zero_point=0)
SVG = "{http://www.w3.org/2000/svg}"


def report(*sensors: str) -> Report:
    points = [
        _row(Point(sensor, name, level, Score(60 - 3 * number, 80)))
        for sensor in sensors
        for name, perturbation in PERTURBATIONS.items()
        for number, level in enumerate(perturbation.levels)
    ]
    return Report("variability", "cortex-m4", "unicorn", (), {"points": list(points)})


def test_a_curve_is_a_table_of_levels_with_intervals() -> None:
    [curves] = curves_of(report("imu")).values()
    rows = list(csv.DictReader(io.StringIO(csv_of(curves))))
    assert len(rows) == sum(len(perturbation.levels) for perturbation in PERTURBATIONS.values())
    for row in rows:
        perturbation = PERTURBATIONS[row["perturbation"]]
        assert (row["unit"], float(row["level"]) in perturbation.levels) == (perturbation.unit, True)
        assert float(row["low"]) < float(row["accuracy"]) < float(row["high"])
        assert int(row["correct"]) / int(row["inputs"]) == float(row["accuracy"])


def test_a_plot_has_a_panel_a_curve_and_every_point_inside_it() -> None:
    [curves] = curves_of(report("imu")).values()
    root = ET.fromstring(svg_of("imu <raw> & more", curves))
    assert root.findtext(f"{SVG}title") == "imu <raw> & more"
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    panels = root.findall(f"{SVG}g")
    assert len(panels) == len(curves)
    for panel, curve in zip(panels, curves, strict=True):
        circles = panel.findall(f"{SVG}circle")
        assert len(circles) == len(curve.points)
        heights = [float(circle.get("cy") or "nan") for circle in circles]
        assert heights == sorted(heights), "accuracy falls from level to level here, so that points sink"
        x, y = map(float, (panel.get("transform") or "")[len("translate(") : -1].split(","))
        assert all(0 <= x + float(circle.get("cx") or "nan") <= width for circle in circles)
        assert all(0 <= y + value <= height for value in heights)
        texts = {text.text for text in panel.findall(f"{SVG}text")}
        assert {curve.perturbation, curve.unit} <= texts


def test_every_sensor_has_files_of_its_own_and_equal_results_equal_bytes(tmp_path: Path) -> None:
    files = write_curves(report("imu", "microphone"), tmp_path / "a")
    assert [file.name for file in files] == ["imu.csv", "imu.svg", "microphone.csv", "microphone.svg"]
    again = write_curves(report("imu", "microphone"), tmp_path / "b")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_sensors_are_named_with_their_channels() -> None:
    assert sensors_of(["imu=0,1", "mic=sound"]) == {"imu": ("0", "1"), "mic": ("sound",)}


@pytest.mark.parametrize("options", [["imu"], ["=1"], ["imu=1,"], ["../imu=1"], ["IMU=1"], ["imu=1", "imu=2"]])
def test_a_sensor_that_is_none_is_refused(options: list[str]) -> None:
    with pytest.raises(UsageError, match=r"allowed is NAME=CHANNEL"):
        sensors_of(options)


def test_channels_have_names_and_numbers() -> None:
    x = np.zeros((5, 20, 3), np.float32)
    found = sensor_windows(x, Q, {"a": ("x", "2"), "b": ("1",)}, ("x", "y", "z"))
    assert found.sensors == {"a": (0, 2), "b": (1,)}
    assert sensor_windows(x, Q, {}, ()).sensors == {"input": (0, 1, 2)}
    with pytest.raises(UsageError, match=r"--sensor a: no channel w; the input's last axis has x, y, z, 0, 1, 2"):
        sensor_windows(x, Q, {"a": ("w",)}, ("x", "y", "z"))


def test_an_input_without_channels_has_one() -> None:
    found = sensor_windows(np.zeros((5, 20), np.float32), Q, {}, ())
    assert (found.x.shape, found.sensors) == ((5, 20, 1), {"input": (0,)})


@pytest.mark.parametrize(
    ("procedure", "rows", "expected"),
    [
        ("acceptance", None, list(range(9))),
        ("acceptance", 20, list(range(9))),
        ("acceptance", 3, [0, 4, 8]),
        ("playback", 3, [0, 1, 2]),
        ("acceptance", 1, [0]),
    ],
)
def test_rows_are_spread_but_where_they_are_one_trace(procedure: str, rows: int | None, expected: list[int]) -> None:
    wish = Wish(board_of("cortex-m4"), procedure, Toolchain.ZIG, Path("data"), rows=rows)
    assert chosen(9, wish).tolist() == expected
