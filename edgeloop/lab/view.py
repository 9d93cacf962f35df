"""The report of a test, for machines and for people."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeloop.check_view import check_table, verdict_line
from edgeloop.lab.testing import Tested
from shared.boards.modelling import Figure


def plain(tested: Tested) -> dict[str, Any]:
    """Return the report as one JSON object. Modelled figures say that they are."""
    report, result = tested.report, tested.result
    figures = {
        **(tested.latency.fields("latency_ms") if tested.latency else {}),
        **(tested.energy.fields("energy_uj") if tested.energy else {}),
    }
    return {
        "job": result.job,
        "project": result.project,
        "procedure": report.procedure,
        "board": report.board,
        "board_class": result.board_class.value,
        "emulator": report.emulator,
        "digest": result.digest,
        "numerics": result.numerics.value,
        "toolchain": result.toolchain,
        "verdict": result.verdict.value,
        "passed": report.passed,
        "seconds": result.seconds,
        "instructions": result.instructions,
        **figures,
        "figures": dict(report.figures),
        "checks": [check.model_dump(mode="json") for check in report.checks],
    }


def shown(tested: Tested) -> RenderableType:
    """Return the report as a terminal shows it."""
    report, result = tested.report, tested.result
    where = f"on {report.emulator}" if report.emulator else "which did not get far"
    head = Text(f"{report.procedure} test of {result.project} for {report.board}, {where}; {result.toolchain}\n")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, text in _figures(tested):
        table.add_row(name, Text(text))
    parts: list[RenderableType] = [head, check_table((check.name, check) for check in report.checks), Text(), table]
    return Group(*parts, Text(), verdict_line(report.passed))


def _figures(tested: Tested) -> Iterator[tuple[str, str]]:
    for name, value in tested.report.figures.items():
        if isinstance(value, int | float | str) and name != "instructions":
            yield name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
        elif isinstance(value, list) and name.endswith("_interval"):
            yield name.replace("_", " "), f"{value[0]} to {value[1]}, 95 %"
    for span in _spans(tested):
        yield f"{span['sensor']} {span['perturbation']}", f"tolerated from {span['from']} to {span['to']}"
    if tested.result.instructions is not None:
        yield "instructions", f"{tested.result.instructions:,}, counted on the first input"
    for name, figure, unit in (("latency", tested.latency, "ms"), ("energy", tested.energy, "µJ")):
        if figure is not None:
            yield name, _said(figure, unit)


def _spans(tested: Tested) -> Iterator[dict[str, Any]]:
    found = tested.report.figures.get("tolerated", [])
    assert isinstance(found, list)
    for span in found:
        assert isinstance(span, dict)
        yield span


def _said(figure: Figure, unit: str) -> str:
    if figure.value is None:
        return f"none: {figure.basis}"
    return f"{figure.value:.4g} {unit}, {figure.origin}: {figure.basis}"
