"""Recurrent layers over a window: an LSTM as the function that the converter has an operator for, others unrolled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.view import Array, View
from services.artifact_builder.inputs.recurrent import lstm

_KERAS_GATES: Final = (0, 2, 3, 1)
"""Keras' input, forget, cell and output gate among ONNX's input, output, forget and cell gate."""
_BACKWARDS: Final[Mapping[str, tuple[bool, ...]]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}
_ACTIVATIONS: Final = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_Layer = Callable[[Any, Array, Array, Array], tuple[Any, Any]]
"""From (1, steps, depth), weights of input and state and both biases to the last output and all of them."""


def _lstm(call: Call) -> list[View | None]:
    _require_zeros(call, 6, "initial cell")
    if call.has(7) or call.attribute("input_forget", 0):
        call.node.refuse("it has peepholes, or couples its gates", "use a plain LSTM")
    return [*_over_steps(call, _lstm_layer), None]


def _lstm_layer(x: Any, weights: Array, recurrent: Array, biases: Array) -> tuple[Any, Any]:  # noqa: ANN401 - no types
    def in_kerass_order(values: Array) -> Array:
        gates = np.split(values, 4)
        return np.concatenate([gates[gate] for gate in _KERAS_GATES])

    kernels = [tf.constant(in_kerass_order(values).T) for values in (weights, recurrent)]
    return lstm(x, kernels[0], kernels[1], tf.constant(in_kerass_order(biases.sum(axis=0))))


def _gru(call: Call) -> list[View | None]:
    if not call.attribute("linear_before_reset", 0):
        call.node.refuse("it resets before the product (linear_before_reset is 0)", "export it from PyTorch or Keras")
    return _over_steps(call, _gru_layer)


def _gru_layer(x: Any, weights: Array, recurrent: Array, biases: Array) -> tuple[Any, Any]:  # noqa: ANN401 - as above
    update, reset, fresh = (slice(gate * len(weights) // 3, (gate + 1) * len(weights) // 3) for gate in range(3))
    hidden = None  # zeros: left out, for a tensor of nothing else has no scale that a runtime could compute with
    outputs = []
    for step in range(x.shape[1]):
        given = tf.matmul(x[:, step], weights.T) + biases[0]
        kept = biases[1:] if hidden is None else tf.matmul(hidden, recurrent.T) + biases[1]
        keep = tf.sigmoid(given[:, update] + kept[:, update])
        take = tf.sigmoid(given[:, reset] + kept[:, reset])
        proposed = tf.tanh(given[:, fresh] + take * kept[:, fresh])
        hidden = proposed - keep * proposed if hidden is None else proposed + keep * (hidden - proposed)
        outputs.append(hidden)
    return hidden, tf.stack(outputs, axis=1)


def _rnn_layer(x: Any, weights: Array, recurrent: Array, biases: Array) -> tuple[Any, Any]:  # noqa: ANN401 - as above
    hidden = tf.zeros((1, recurrent.shape[1]))
    outputs = []
    for step in range(x.shape[1]):
        hidden = tf.tanh(tf.matmul(x[:, step], weights.T) + tf.matmul(hidden, recurrent.T) + biases.sum(axis=0))
        outputs.append(hidden)
    return hidden, tf.stack(outputs, axis=1)


def _over_steps(call: Call, layer: _Layer) -> list[View | None]:
    """Return all outputs, (steps, directions, batch, units), and the last ones, without the steps."""
    directions = _BACKWARDS[call.attribute("direction", "forward")]
    _require_plain(call, directions)
    x = call.view().arranged((1, 0, 2))
    if x.shape[0] != 1:
        call.node.refuse(f"its batch is {x.shape[0]}", "export the model for a batch of 1")
    weights, recurrent = call.constant(1), call.constant(2)
    rows = weights.shape[1]
    biases = call.constant(3, np.zeros((len(directions), 2 * rows), np.float32)).reshape(-1, 2, rows)
    lasts, sequences = [], []
    for number, backwards in enumerate(directions):
        source = x[:, ::-1] if backwards else x
        last, sequence = layer(source, weights[number], recurrent[number], biases[number])
        lasts.append(last)
        sequences.append(sequence[:, ::-1] if backwards else sequence)
    if len(directions) == 1:
        return [View(sequences[0], ((1,), (), (), (2,))), View(lasts[0], ((), (), (1,)))]
    steps, units = x.shape[1], recurrent.shape[2]
    both = tf.reshape(tf.concat(sequences, axis=-1), (steps, len(directions), units))
    last = tf.reshape(tf.concat(lasts, axis=-1), (len(directions), units))
    return [View(both, ((0,), (1,), (), (2,))), View(last, ((0,), (), (1,)))]


def _require_plain(call: Call, directions: Sequence[bool]) -> None:
    expected = _ACTIVATIONS[call.node.operator] * len(directions)
    found = [name.decode() if isinstance(name, bytes) else name for name in call.attribute("activations", expected)]
    if found != expected:
        call.node.refuse(f"its activations are {', '.join(found)}", f"use {', '.join(expected)}")
    if call.attribute("layout", 0) or call.attribute("clip", 0.0):
        call.node.refuse("it has its batch first, or clips", "export it with layout 0 and without clip")
    if call.has(4):
        lengths = call.constant(4)
        if np.any(lengths != call.view().shape[0]):
            call.node.refuse("its sequences end early", "let every window have all of its steps")
    _require_zeros(call, 5, "initial state")


def _require_zeros(call: Call, position: int, what: str) -> None:
    if call.has(position) and np.any(call.constant(position)):
        call.node.refuse(f"its {what} is not zero", "let it begin with zeros")


OPERATORS: Final[Mapping[str, Callable[[Call], list[View | None]]]] = {
    "GRU": _gru,
    "LSTM": _lstm,
    "RNN": lambda call: _over_steps(call, _rnn_layer),
}
