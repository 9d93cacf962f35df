"""Accuracy against perturbation, one curve for each way a sensor may differ: as CSV, and as a plot.

The plot is SVG written by hand: a library for plots would be the largest dependency of the command line, for one
picture, and its output differs from version to version. Equal results give equal bytes here.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from shared.procedures import Report
from shared.procedures.perturbations import PERTURBATIONS

_COLUMNS: Final = ("perturbation", "unit", "level", "accuracy", "low", "high", "correct", "inputs")
_PANEL_WIDTH: Final = 300
_PANEL_HEIGHT: Final = 220
_PANELS_A_ROW: Final = 3
_LEFT: Final = 44
_TOP: Final = 34
_PLOT_WIDTH: Final = _PANEL_WIDTH - _LEFT - 16
_PLOT_HEIGHT: Final = _PANEL_HEIGHT - _TOP - 46
_HEAD: Final = 46
_GRID: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_INK, _FAINT, _LINE, _BAND = "#222222", "#cccccc", "#0b62a4", "#9ec9e8"


@dataclass(frozen=True, slots=True)
class Curve:
    """One perturbation of one sensor. Points are the report's own, in the order of their levels."""

    sensor: str
    perturbation: str
    points: tuple[dict[str, Any], ...]

    @property
    def unit(self) -> str:
        """What a level is."""
        return PERTURBATIONS[self.perturbation].unit


def curves_of(report: Report) -> dict[str, tuple[Curve, ...]]:
    """Return the curves of a report of sensor variability, by sensor."""
    points = report.figures.get("points", [])
    assert isinstance(points, list)
    by_curve: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in points:
        assert isinstance(point, dict)
        by_curve.setdefault((str(point["sensor"]), str(point["perturbation"])), []).append(dict(point))
    by_sensor: dict[str, list[Curve]] = {}
    for (sensor, name), found in by_curve.items():
        by_sensor.setdefault(sensor, []).append(Curve(sensor, name, tuple(found)))
    return {sensor: tuple(curves) for sensor, curves in by_sensor.items()}


def write_curves(report: Report, folder: Path) -> list[Path]:
    """Write ``SENSOR.csv`` and ``SENSOR.svg`` of each sensor, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for sensor, curves in curves_of(report).items():
        title = f"{sensor}: accuracy on {report.board} against perturbation"
        for suffix, content in ((".csv", csv_of(curves)), (".svg", svg_of(title, curves))):
            file = folder / f"{sensor}{suffix}"
            file.write_text(content, "utf-8")
            written.append(file)
    return written


def csv_of(curves: Sequence[Curve]) -> str:
    """Return one line a level; `low` and `high` are the ends of Wilson's 95 % interval."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(point | {"unit": curve.unit} for curve in curves for point in curve.points)
    return text.getvalue()


def svg_of(title: str, curves: Sequence[Curve]) -> str:
    """Return a picture with a panel for each curve: accuracy as a line, Wilson's 95 % interval as a band."""
    rows = -(-len(curves) // _PANELS_A_ROW)
    width, height = _PANEL_WIDTH * min(len(curves), _PANELS_A_ROW), _HEAD + _PANEL_HEIGHT * rows
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "font-family": "sans-serif",
            "font-size": "11",
            "fill": _INK,
            "role": "img",
        },
    )
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    _text(root, 12, 22, title, size="15")
    _text(root, 12, 38, "band: Wilson's 95 % interval; dashed: undisturbed")
    for number, curve in enumerate(curves):
        x, y = number % _PANELS_A_ROW * _PANEL_WIDTH, _HEAD + number // _PANELS_A_ROW * _PANEL_HEIGHT
        _panel(ET.SubElement(root, "g", {"transform": f"translate({x},{y})"}), curve)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _panel(panel: ET.Element, curve: Curve) -> None:
    _text(panel, _LEFT, 18, curve.perturbation, size="13")
    _text(panel, _LEFT + _PLOT_WIDTH / 2, _PANEL_HEIGHT - 10, curve.unit, anchor="middle")
    for value in _GRID:
        y = _y(value)
        _path(panel, [(_LEFT, y), (_LEFT + _PLOT_WIDTH, y)], stroke=_FAINT)
        _text(panel, _LEFT - 6, y + 4, f"{value:g}", anchor="end")
    levels = [float(point["level"]) for point in curve.points]
    xs = [_x(level, levels) for level in levels]
    for x, level in _labels(xs, levels):
        _text(panel, x, _TOP + _PLOT_HEIGHT + 16, f"{level:g}", anchor="middle")
    neutral = PERTURBATIONS[curve.perturbation].neutral
    for x, level in zip(xs, levels, strict=True):
        if level == neutral:
            _path(panel, [(x, _TOP), (x, _TOP + _PLOT_HEIGHT)], stroke=_INK, **{"stroke-dasharray": "3 3"})
    upper, lower, middle = (
        [(x, _y(point[key])) for x, point in zip(xs, curve.points, strict=True)] for key in ("high", "low", "accuracy")
    )
    _path(panel, [*upper, *lower[::-1]], fill=_BAND, **{"fill-opacity": "0.6"})
    _path(panel, middle, stroke=_LINE, **{"stroke-width": "2"})
    for x, y in middle:
        ET.SubElement(panel, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3", "fill": _LINE})


def _x(level: float, levels: Sequence[float]) -> float:
    low, high = min(levels), max(levels)
    return _LEFT + (level - low) / (high - low or 1) * _PLOT_WIDTH


def _y(accuracy: float) -> float:
    return _TOP + (1 - float(accuracy)) * _PLOT_HEIGHT


def _labels(xs: Sequence[float], levels: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Yield the levels that there is room to write: ends first, then those that touch no other."""
    taken: list[float] = []
    for x, level in [(xs[0], levels[0]), (xs[-1], levels[-1]), *zip(xs[1:-1], levels[1:-1], strict=True)]:
        if all(abs(x - other) >= 26 for other in taken):
            taken.append(x)
            yield x, level


def _path(parent: ET.Element, points: Sequence[tuple[float, float]], **attributes: str) -> None:
    steps = " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    ET.SubElement(parent, "path", {"d": f"M{steps}", "fill": "none", **attributes})


def _text(parent: ET.Element, x: float, y: float, text: str, *, anchor: str = "start", size: str = "11") -> None:
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": size}
    ET.SubElement(parent, "text", attributes).text = text
