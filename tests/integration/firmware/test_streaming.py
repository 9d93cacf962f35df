"""Models that keep state between inferences, against TensorFlow Lite for Microcontrollers over sequences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import UnsupportedModelError, generate
from shared.boards import image_board
from shared.emulation.dut import DutBoard
from shared.emulation.on_unicorn import boot_unicorn
from shared.events.lab import Numerics
from tests.tflite_models import Model

Images = Callable[..., bytes]

_STEPS = 12
_runtime = pytest.importorskip(
    "tflite_micro.python.tflite_micro.runtime", reason="tflite-micro is published for x86_64 Linux only"
)


def _handle(model: Model, name: str) -> int:
    made = model.main.resource()
    model.main.operator("VAR_HANDLE", [], [made], "VarHandle", version=1, sharedName=name.encode())
    return made


def _initialise(model: Model, name: str, values: NDArray[np.int8], scale: float, zero_point: int) -> None:
    """Let CALL_ONCE set a variable to a constant."""
    setting = model.subgraph()
    handle = setting.resource()
    setting.operator("VAR_HANDLE", [], [handle], "VarHandle", version=1, sharedName=name.encode())
    setting.operator("ASSIGN_VARIABLE", [handle, setting.constant(values, scale, zero_point)], [], version=1)
    model.main.operator("CALL_ONCE", [], [], "CallOnce", version=1, initSubgraphIndex=len(model.others))


def ring_buffer(*, initial: bool) -> bytes:
    """Keep the last five frames, as streaming convolutions do, and average over them."""
    model = Model()
    graph = model.main
    frame = graph.input((1, 1, 4), 0.1, 2)
    if initial:
        _initialise(model, "frames", np.arange(20, dtype=np.int8).reshape(1, 5, 4), 0.1, 2)
    handle = _handle(model, "frames")
    before = graph.tensor((1, 5, 4), 0.1, 2)
    graph.operator("READ_VARIABLE", [handle], [before], "ReadVariable", version=1)
    joined = graph.tensor((1, 6, 4), 0.1, 2)
    graph.operator("CONCATENATION", [before, frame], [joined], "Concatenation", axis=1)
    after = graph.tensor((1, 5, 4), 0.1, 2)
    cut = [graph.constant(np.array(values, np.int32)) for values in ([0, 1, 0], [1, 6, 4], [1, 1, 1])]
    graph.operator("STRIDED_SLICE", [joined, *cut], [after], "StridedSlice")
    graph.operator("ASSIGN_VARIABLE", [handle, after], [], "AssignVariable", version=1)
    mean = graph.tensor((1, 4), 0.05, -3)
    graph.operator("MEAN", [joined, graph.constant(np.array([1], np.int32))], [mean], "Reducer")
    graph.outputs.append(mean)
    return model.pack()


def accumulator() -> bytes:
    """Answer with what the state was before, after it was set: the value has to be kept aside."""
    model = Model()
    graph = model.main
    value = graph.input((1, 8), 0.1, 0)
    handle = _handle(model, "sum")
    before, after = graph.tensor((1, 8), 0.1, 0), graph.tensor((1, 8), 0.1, 0)
    graph.operator("READ_VARIABLE", [handle], [before], "ReadVariable", version=1)
    graph.operator("ADD", [before, value], [after], "Add")
    graph.operator("ASSIGN_VARIABLE", [handle, after], [], "AssignVariable", version=1)
    again = graph.tensor((1, 8), 0.1, 0)
    graph.operator("READ_VARIABLE", [handle], [again], "ReadVariable", version=1)
    difference = graph.tensor((1, 8), 0.1, 0)
    graph.operator("SUB", [again, before], [difference], "Sub")
    graph.outputs.extend([difference, before, again])
    return model.pack()


def lstm(*, clip: float = 0.0, cell_power: int = -11, time_major: bool = False) -> bytes:
    """Run an LSTM of 7 units over 5 steps of 6 values."""
    model, rng = Model(), np.random.default_rng(11)
    graph = model.main
    steps, depth, units = 5, 6, 7
    source = graph.input((steps, 1, depth) if time_major else (1, steps, depth), 0.05, 4)
    scales = rng.uniform(0.01, 0.03, 8).astype(np.float32)
    weights = [
        graph.constant(rng.integers(-127, 128, (units, depth if n < 4 else units)).astype(np.int8), float(scales[n]))
        for n in range(8)
    ]
    biases = [
        graph.constant(rng.integers(-900, 900, units).astype(np.int32), float(np.float32(0.05) * scales[n]))
        for n in range(4)
    ]
    hidden = graph.tensor((1, units), 1 / 128, -3, variable=True, name="hidden")
    cell = graph.tensor((1, units), 2.0**cell_power, 0, dtype=np.int16, variable=True, name="cell")
    output = graph.tensor((steps, 1, units) if time_major else (1, steps, units), 1 / 128, -3)
    absent = -1
    inputs = [source, *weights, *[absent] * 3, *biases, absent, absent, hidden, cell, *[absent] * 4]
    graph.operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        inputs,
        [output],
        "UnidirectionalSequenceLSTM",
        version=3,
        fusedActivationFunction=4,
        cellClip=clip,
        timeMajor=time_major,
    )
    graph.outputs.append(output)
    return model.pack()


def svdf(dtype: type[np.signedinteger[Any]], rank: int, activation: int = 1) -> bytes:
    """Filter frames of 6 values, with a memory of 5 of them."""
    model, rng = Model(), np.random.default_rng(12)
    graph = model.main
    depth, units, memory = 6, 7, 5
    filters = units * rank
    limit = np.iinfo(dtype).max
    state_scale, time_scale = (0.02, 0.007) if dtype is np.int8 else (2.0**-11, 2.0**-14)
    source = graph.input((1, depth), 0.05, 4)
    features = graph.constant(rng.integers(-127, 128, (filters, depth)).astype(np.int8), 0.008)
    times = graph.constant(rng.integers(-limit, limit + 1, (filters, memory)).astype(dtype), time_scale)
    bias = graph.constant(rng.integers(-900, 900, units).astype(np.int32), state_scale * time_scale)
    state = graph.tensor((1, filters * memory), state_scale, 0, dtype=dtype, variable=True, name="frames")
    output = graph.tensor((1, units), 0.03, -60)
    inputs = [source, features, times, bias, state]
    graph.operator("SVDF", inputs, [output], "SVDF", version=3, rank=rank, fusedActivationFunction=activation)
    graph.outputs.append(output)
    return model.pack()


def _compare(model: bytes, board: DutBoard, interpreter: Any, steps: int, rng: np.random.Generator) -> int:
    """Return how many different outputs there were."""
    generated = generate(model)
    seen = set()
    for step in range(steps):
        row = rng.integers(-30, 31, generated.inputs[0].shape).astype(np.int8)
        interpreter.set_input(row, 0)
        interpreter.invoke()
        output = board.infer(row.tobytes()).output
        for number, leave in enumerate(generated.outputs):
            theirs = interpreter.get_output(number)
            ours = np.frombuffer(output, np.int8, theirs.size, leave.offset_bytes)
            np.testing.assert_array_equal(ours, theirs.ravel(), err_msg=f"output {number}, inference {step}")
        seen.add(output)
    return len(seen)


_MODELS = {
    "a ring of zeros": ring_buffer(initial=False),
    "a ring that begins full": ring_buffer(initial=True),
    "an accumulator": accumulator(),
    "an LSTM": lstm(),
    "an LSTM with a clipped, coarse cell": lstm(clip=1.5, cell_power=-12),
    "an SVDF layer of int8": svdf(np.int8, 2),
    "an SVDF layer of int16": svdf(np.int16, 1),
    "an LSTM with time first and a wide cell": lstm(cell_power=-14, time_major=True),
}


@pytest.mark.parametrize("name", _MODELS)
def test_a_sequence_of_inferences_matches(name: str, make_image: Images) -> None:
    model, rng = _MODELS[name], np.random.default_rng(3)
    interpreter = _runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
    board = boot_unicorn(make_image(model), image_board("cortex-m4"))
    assert _compare(model, board, interpreter, _STEPS, rng) > _STEPS // 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("an SVDF layer of int8", r"SVDF .*tflm alone, and litert is asked for\. Generate with the numerics tflm$"),
        ("an SVDF layer of int16", r"SVDF .*tflm alone, and litert is asked for"),
        ("an LSTM", r"UNIDIRECTIONAL_SEQUENCE_LSTM .*tflm alone, and litert is asked for\. .*unroll the LSTM$"),
    ],
)
def test_a_layer_with_a_memory_that_litert_computes_by_other_steps_is_refused_by_name(name: str, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        generate(_MODELS[name], Numerics.LITERT)


def test_a_reset_forgets_what_earlier_inferences_left(make_image: Images) -> None:
    model, rng = _MODELS["a ring that begins full"], np.random.default_rng(4)
    board = boot_unicorn(make_image(model), image_board("cortex-m4"))
    for _ in range(3):
        board.infer(rng.integers(-128, 128, 4).astype(np.int8).tobytes())
    board.ask("reset%")
    fresh = _runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
    assert _compare(model, board, fresh, _STEPS, rng) > _STEPS // 2


def test_state_is_counted_apart_from_the_arena() -> None:
    ring = generate(_MODELS["a ring that begins full"])
    assert ring.state_bytes == 20
    assert "#define MODEL_STATE_BYTES 20" in ring.sources["model.h"]
    assert generate(_MODELS["an accumulator"]).state_bytes == 8
