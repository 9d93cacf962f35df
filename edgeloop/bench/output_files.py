"""Writes the output vector of every input, in the format that a file's name asks for."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from edgeloop.bench.mlperf_tiny import Benchmark


def write_outputs(benchmark: Benchmark, file: Path) -> None:
    """Write one entry an input, in their order: JSON lines, unless the name ends in .json, .csv or .npy."""
    file.write_bytes(_FORMATS.get(file.suffix, _json_lines)(benchmark))


def _entries(benchmark: Benchmark) -> Iterator[dict[str, object]]:
    rows = zip(benchmark.case.recordings.names, benchmark.case.recordings.labels, benchmark.outputs, strict=True)
    for name, label, output in rows:
        yield {"input": name, "label": int(label), "predicted": int(np.argmax(output)), "output": output.tolist()}


def _json_lines(benchmark: Benchmark) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in _entries(benchmark)).encode()


def _json(benchmark: Benchmark) -> bytes:
    return (json.dumps(list(_entries(benchmark)), indent=1) + "\n").encode()


def _csv(benchmark: Benchmark) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["input", "label", "predicted", *(f"output_{i}" for i in range(benchmark.outputs.shape[1]))])
    for name, label, output in zip(
        benchmark.case.recordings.names, benchmark.case.recordings.labels, benchmark.outputs, strict=True
    ):
        writer.writerow([name, int(label), int(np.argmax(output)), *output.tolist()])
    return text.getvalue().encode()


def _npy(benchmark: Benchmark) -> bytes:
    data = io.BytesIO()
    np.save(data, benchmark.outputs, allow_pickle=False)
    return data.getvalue()


_FORMATS: Final[Mapping[str, Callable[[Benchmark], bytes]]] = {
    ".json": _json,
    ".csv": _csv,
    ".npy": _npy,
}
