"""Recurrent layers in a form that TensorFlow Lite has in int8: a plain LSTM is one operator, others are unrolled.

Keras 3 writes loops, whose bodies TensorFlow Lite does not quantise. Its converter makes UNIDIRECTIONAL_SEQUENCE_LSTM
of a function that says in an attribute that it is one (prepare_composite_functions_tf.cc), as Keras 2 wrote. Imports
TensorFlow and Keras: for the conversion's process only.
"""

import itertools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tensorflow as tf

Tensor = Any
"""TensorFlow publishes no types."""

_IMPLEMENTS: Final = "api_implements"
_numbers = itertools.count()


def lstm(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last output and all outputs of an LSTM that begins with zeros.

    Args:
        x: (1, steps, depth), of known shape.
        kernel: (depth, 4 * units), the gates in Keras' order: input, forget, cell, output.
        recurrent: (units, 4 * units).
        bias: (4 * units,).
    """
    attributes = {_IMPLEMENTS: f"lstm_{next(_numbers)}", "time_major": False, "go_backwards": False}
    function = tf.function(_lstm_of_keras, experimental_attributes=attributes, autograph=False)
    zeros = tf.zeros((1, recurrent.shape[0]))
    last, sequence, *_ = function(x, zeros, zeros, kernel, recurrent, bias)
    return last, sequence


def _lstm_of_keras(  # noqa: PLR0917 - the converter knows the arguments by their places
    x: Tensor, hidden: Tensor, cell: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor
) -> tuple[Tensor, ...]:
    outputs = []
    for step in range(x.shape[1]):
        gates = tf.matmul(x[:, step], kernel) + tf.matmul(hidden, recurrent) + bias
        take, forget, fresh, show = tf.split(gates, 4, axis=1)
        cell = tf.sigmoid(forget) * cell + tf.sigmoid(take) * tf.tanh(fresh)
        hidden = tf.sigmoid(show) * tf.tanh(cell)
        outputs.append(hidden)
    device = tf.constant(1.0)  # where Keras 2 said on which device it ran
    return hidden, tf.stack(outputs, axis=1), hidden, cell, device


def has_fused(concrete: Any) -> bool:  # noqa: ANN401 - as above
    """Whether a traced function calls one that the converter replaces by an operator."""
    return any(_IMPLEMENTS in function.attr for function in concrete.graph.as_graph_def().library.function)


def make_convertible(model: Any) -> None:  # noqa: ANN401 - as above
    """Change the recurrent layers of a Keras model so that tracing it for a window of known length leaves no loop."""
    import keras  # noqa: PLC0415 - seconds; ONNX files do without it

    for layer in model._flatten_layers():  # noqa: SLF001 - Keras has no other way into nested models and wrappers
        if not isinstance(layer, keras.layers.RNN):
            continue
        layer.unroll = True
        if isinstance(layer, keras.layers.LSTM) and _is_plain(layer):
            layer.inner_loop = _fused_loop(layer)


def of_constants(model: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401 - as above
    """Return what a Keras model computes, with its weights as constants.

    A graph that calls fused functions is not frozen afterwards, and the order of its variables would be chance.
    """
    import keras  # noqa: PLC0415 - as above

    weights = [(variable, variable.numpy()) for variable in model.variables]

    def function(x: Tensor) -> Tensor:
        with keras.StatelessScope(state_mapping=[(variable, tf.constant(value)) for variable, value in weights]):
            return model(x, training=False)

    return function


def _is_plain(layer: Any) -> bool:  # noqa: ANN401 - as above
    import keras  # noqa: PLC0415 - as above

    activations = (layer.activation, layer.recurrent_activation)
    plain = activations == (keras.activations.tanh, keras.activations.sigmoid)
    return plain and not layer.stateful and not layer.return_state


def _fused_loop(layer: Any) -> Callable[..., tuple[Tensor, ...]]:  # noqa: ANN401 - as above
    """Return what an LSTM layer calls instead of its loop over the steps."""
    unrolled = layer.inner_loop

    def inner_loop(sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> tuple[Tensor, ...]:  # noqa: ANN401 - as above
        if mask is not None or not all(_are_zeros(state) for state in initial_state):
            result: tuple[Tensor, ...] = unrolled(sequences, initial_state, mask, training)
            return result
        x = sequences[:, ::-1] if layer.go_backwards else sequences
        cell = layer.cell
        bias = tf.zeros((4 * layer.units,)) if cell.bias is None else tf.convert_to_tensor(cell.bias)
        kernel, recurrent = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
        return *lstm(x, kernel, recurrent, bias), initial_state

    return inner_loop


def _are_zeros(state: Tensor) -> bool:
    values = tf.get_static_value(state)
    return values is not None and not np.any(values)
