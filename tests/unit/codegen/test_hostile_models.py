"""Damaged and hostile models cost little and end in one of two errors."""

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError, generate
from services.artifact_builder.codegen.lowering import SUPPORTED
from services.artifact_builder.codegen.reader import MAXIMUM_OPERATORS
from services.artifact_builder.codegen.schema import OPTIONS
from tests.support import ROOT
from tests.tflite_models import Model, schema

_FUZZED = 10_000
_MEMORY_BYTES = 1 << 30
_SLOWEST_S = 2.0
_PROCESSOR_S = 120
_MODELS = Path(__file__).parents[2] / "data" / "models"


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_S, _PROCESSOR_S))


def test_ten_thousand_damaged_models_end_in_one_of_two_errors_within_a_gibibyte(tmp_path: Path) -> None:
    corpus = sorted(str(path) for path in _MODELS.glob("*.tflite"))
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.unit.codegen.fuzzing", str(_FUZZED), "20261127", *corpus],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=_limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    ends = json.loads(ended.stdout)
    assert ends.pop("slowest_s") < _SLOWEST_S
    assert sum(ends.values()) == _FUZZED
    assert min(ends.values()) > 100, "each end should have been met often"


def _dense(shape: tuple[int, ...], weights: tuple[int, ...], made: tuple[int, ...]) -> Model:
    """Make a dense layer whose weights are not in the file, but say that they are so large."""
    model = Model()
    graph = model.main
    small = graph.constant(np.zeros(4, np.int8), 0.1)
    graph.tensors[small].shape = list(weights)
    graph.outputs.append(graph.tensor(made, 0.1))
    graph.operator("FULLY_CONNECTED", [graph.input(shape), small, -1], graph.outputs, "FullyConnected", version=4)
    return model


def _relu(shape: tuple[int, ...], times: int = 1) -> Model:
    model = Model()
    graph = model.main
    last = graph.input(shape)
    for _ in range(times):
        made = graph.tensor(shape, 0.1)
        graph.operator("RELU", [last], [made])
        last = made
    graph.outputs.append(last)
    return model


def _padded(amount: int) -> Model:
    model = Model()
    graph = model.main
    made = graph.tensor((1, 4), 0.1)
    paddings = graph.constant(np.array([[0, 0], [amount, -amount]], np.int32))
    graph.operator("PAD", [graph.input((1, 4)), paddings], [made], "Pad")
    graph.outputs.append(made)
    return model


def _scaled(scale: float) -> Model:
    model = _relu((1, 4))
    model.main.tensors[-1].quantization.scale = [scale]
    return model


def _sharing_one_constant(times: int) -> Model:
    """Let many layers read one large constant: a small file, and gigabytes to write out."""
    model = Model()
    graph = model.main
    weights = graph.constant(np.zeros((1024, 1024), np.int8), 0.1)
    last = graph.input((1, 1024))
    for _ in range(times):
        made = graph.tensor((1, 1024), 0.1)
        graph.operator("FULLY_CONNECTED", [last, weights, -1], [made], "FullyConnected", version=4)
        last = made
    graph.outputs.append(last)
    return model


def _reading_itself() -> Model:
    model = Model()
    graph = model.main
    graph.input((1, 4))
    made = graph.tensor((1, 4), 0.1)
    graph.operator("RELU", [made], [made])
    graph.outputs.append(made)
    return model


_HOSTILE: dict[str, tuple[Callable[[], Model], str]] = {
    "weights of 2^28 bytes that are not there": (
        lambda: _dense((1, 1 << 14), (1 << 14, 1 << 14), (1, 1 << 14)),
        r"FULLY_CONNECTED.*|tensor 0 .* should hold 268435456 bytes, and holds 4",
    ),
    "an arena of terabytes": (lambda: _relu((1 << 20, 1 << 20)), r"impossible shape \[1048576, 1048576\]"),
    "an arena of a gigabyte": (lambda: _relu((1 << 28,), 3), r"needs \d+ bytes for its activations"),
    "a dimension of nothing": (lambda: _relu((1, 0, 4)), r"impossible shape \[1, 0, 4\]"),
    "a negative dimension": (lambda: _relu((1, -4)), r"impossible shape \[1, -4\]"),
    "nine dimensions": (lambda: _relu((1,) * 9), "9 dimensions"),
    "a negative padding": (lambda: _padded(3), r"paddings \[\[0, 0\], \[3, -3\]\] do not fit"),
    "a scale that is no number": (lambda: _scaled(float("nan")), "a scale that is no number between"),
    "an infinite scale": (lambda: _scaled(float("inf")), "a scale that is no number between"),
    "a scale of nothing": (lambda: _scaled(0.0), "a scale that is no number between"),
    "a negative scale": (lambda: _scaled(-0.5), "a scale that is no number between"),
    "an operator that reads what it makes": (_reading_itself, "is read before anything makes it"),
    "too many operators": (lambda: _relu((1, 4), MAXIMUM_OPERATORS + 1), "4097 operators; up to 4096 are supported"),
    "a constant that is read a thousand times": (lambda: _sharing_one_constant(1000), "bytes of constants; up to"),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_sizes_are_refused_at_once(name: str) -> None:
    make, message = _HOSTILE[name]
    data = make().pack()
    begin = time.process_time()
    with pytest.raises((MalformedModelError, UnsupportedModelError), match=message):
        generate(data)
    assert time.process_time() - begin < _SLOWEST_S


def test_the_largest_graph_is_planned_in_bounded_time() -> None:
    data = _relu((1, 4), MAXIMUM_OPERATORS).pack()
    begin = time.process_time()
    assert generate(data).layers == MAXIMUM_OPERATORS
    assert time.process_time() - begin < 30


def test_a_small_file_whose_tables_overlap_is_refused_before_it_is_large() -> None:
    model = _relu((1, 4), 2000)
    model.main.tensors[0].name = b"n" * 3000
    data = bytearray(model.pack())
    # The vector of tensors has 2,001 offsets behind its length; let all lead to the table with the long name.
    at = data.index((2001).to_bytes(4, "little")) + 4
    first = at + int.from_bytes(data[at : at + 4], "little")
    for place in range(at, at + 4 * 2001, 4):
        data[place : place + 4] = (first - place).to_bytes(4, "little")
    with pytest.raises(MalformedModelError, match="more than 8 times its own size: parts of it overlap"):
        generate(bytes(data))


_SHAPES = st.lists(st.integers(1, 4), max_size=5)
_DTYPES = st.sampled_from([np.int8, np.int8, np.int8, np.uint8, np.int16, np.int32, np.float32])
_TENSORS = st.lists(
    st.tuples(_SHAPES, _DTYPES, st.sampled_from([None, 0.1, 1 / 256, 1e-30, 3e9]), st.booleans()),
    min_size=3,
    max_size=9,
)
_INDEX = st.integers(-1, 8)
_OPERATORS = st.lists(
    st.tuples(
        st.sampled_from(sorted(SUPPORTED)),
        st.lists(_INDEX, max_size=4),
        st.lists(_INDEX, max_size=3),
        st.lists(st.integers(-3, 5), min_size=8, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def _random_options(name: str, numbers: list[int]) -> dict[str, Any]:
    if name not in OPTIONS:
        return {}
    table, fields = getattr(schema, f"{OPTIONS[name].table}T")(), {}
    for (option, (_, kind)), number in zip(OPTIONS[name].fields.items(), numbers, strict=False):
        field = option[0].lower() + option[1:]
        is_flag = isinstance(getattr(table, field), bool)
        fields[field] = b"a" if kind == "s" else bool(number % 2) if is_flag else number
    return fields


def _random_model(tensors: list[Any], operators: list[Any], ends: tuple[int, int]) -> bytes:
    model = Model()
    graph = model.main
    rng = np.random.default_rng(len(tensors))
    for shape, dtype, scale, constant in tensors:
        if constant:
            graph.constant(rng.integers(0, 4, shape).astype(dtype), scale)
        else:
            graph.tensor(shape, scale, dtype=dtype)
    count = len(tensors)
    for name, inputs, outputs, numbers in operators:
        graph.operator(
            name,
            [i % count if i >= 0 else -1 for i in inputs],
            [abs(i) % count for i in outputs],
            OPTIONS[name].table.removesuffix("Options") if name in OPTIONS else "",
            **_random_options(name, numbers),
        )
    graph.inputs.append(ends[0] % count)
    graph.outputs.append(ends[1] % count)
    return model.pack()


@settings(max_examples=200, deadline=None)
@given(_TENSORS, _OPERATORS, st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_any_graph_of_known_operators_is_generated_or_refused(
    tensors: list[Any], operators: list[Any], ends: tuple[int, int]
) -> None:
    with contextlib.suppress(MalformedModelError, UnsupportedModelError):
        generate(_random_model(tensors, operators, ends))


_DEPRECATED = {"RESIZE_BILINEAR": 2}
"""Fields that the schema had before those that it has: their slots stay taken."""


@pytest.mark.parametrize("name", OPTIONS)
def test_options_lie_where_the_published_schema_has_them(name: str) -> None:
    table = getattr(schema, f"{OPTIONS[name].table}T")()
    slots = {field: number for number, field in enumerate(vars(table), _DEPRECATED.get(name, 0))}
    for option, (slot, _) in OPTIONS[name].fields.items():
        assert slots[option[0].lower() + option[1:]] == slot
