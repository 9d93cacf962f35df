"""Activations and arithmetic, element by element: they take the memory as it lies."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

import numpy as np
import tensorflow as tf

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.view import Array, View, combined

_Tensor = Any


def _unary(function: Callable[[_Tensor], _Tensor], *, nonnegative: bool = False) -> Callable[[Call], View]:
    def operator(call: Call) -> View:
        view = call.view()
        return dataclasses.replace(view.replaced(function(view.tensor)), nonnegative=nonnegative)

    return operator


def _binary(function: Callable[[_Tensor, _Tensor], _Tensor]) -> Callable[[Call], View]:
    def operator(call: Call) -> View:
        return combined(_float(call.operand(0)), _float(call.operand(1)), function)

    return operator


def _variadic(function: Callable[[_Tensor, _Tensor], _Tensor]) -> Callable[[Call], View]:
    def operator(call: Call) -> View:
        operands = [_float(call.operand(position)) for position in range(len(call.operands))]
        if len(operands) == 1:
            return call.view()
        result = reduce(lambda a, b: combined(a, b, function), operands)
        assert isinstance(result, View)  # of constants alone nothing would be left to convert
        return result

    return operator


def _float(operand: View | Array) -> View | Array:
    return operand if isinstance(operand, View) else operand.astype(np.float32)


def _divide(call: Call) -> View:
    divisor = call.operand(1)
    if isinstance(divisor, View):
        return combined(_float(call.operand(0)), divisor, tf.math.divide)
    reciprocal = np.asarray(1 / divisor.astype(np.float64), np.float32)
    return combined(call.view(), reciprocal, tf.math.multiply)


def _same(call: Call) -> View:
    return call.view()


def _cast(call: Call) -> View:
    floats = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
    if call.attribute("to") not in floats:
        call.node.refuse("it casts to a type that is no float", "compute whole numbers outside the model")
    return call.view()


def _clip(call: Call) -> View:
    low = float(call.constant(1, np.array(call.attribute("min", -math.inf))))
    high = float(call.constant(2, np.array(call.attribute("max", math.inf))))
    return _clipped(call.view(), low, high)


def _clipped(view: View, low: float, high: float) -> View:
    tensor = view.tensor
    if (low, high) == (0, 6):
        tensor = tf.nn.relu6(tensor)
    elif low == 0:
        tensor = tf.nn.relu(tensor)
    elif low > -math.inf:
        tensor = tf.math.maximum(tensor, np.float32(low))
    if high < math.inf and (low, high) != (0, 6):
        tensor = tf.math.minimum(tensor, np.float32(high))
    return dataclasses.replace(view.replaced(tensor), nonnegative=low >= 0)


def _leaky_relu(call: Call) -> View:
    view = call.view()
    return view.replaced(tf.nn.leaky_relu(view.tensor, alpha=float(call.attribute("alpha", 0.01))))


def _prelu(call: Call) -> View:
    # TensorFlow Lite knows its PRELU by this form.
    view = call.view()
    negative = combined(view.replaced(tf.nn.relu(-view.tensor)), -call.constant(1), tf.math.multiply)
    return combined(view.replaced(tf.nn.relu(view.tensor)), negative, tf.math.add)


def _elu(call: Call) -> View:
    alpha = float(call.attribute("alpha", 1.0))
    if alpha != 1:
        call.node.refuse(f"its alpha is {alpha:g}; allowed is 1", "use ELU with alpha 1, or LeakyRelu")
    return _unary(tf.nn.elu)(call)


def _hard_sigmoid(call: Call) -> View:
    alpha, beta = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    view = call.view()
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:  # as in hard-swish
        tensor = tf.nn.relu6(view.tensor + 3.0) * np.float32(1 / 6)
        return dataclasses.replace(view.replaced(tensor), nonnegative=True)
    return _clipped(view.replaced(view.tensor * np.float32(alpha) + np.float32(beta)), 0, 1)


def _hard_swish(x: _Tensor) -> _Tensor:
    return x * tf.nn.relu6(x + 3.0) * np.float32(1 / 6)  # TensorFlow Lite knows its HARD_SWISH by this form


def _power(call: Call) -> View:
    exponent = call.constant(1)
    powers: dict[float, Callable[[_Tensor], _Tensor]] = {1: tf.identity, 2: tf.math.square, 0.5: tf.math.sqrt}
    if exponent.size != 1 or float(exponent.ravel()[0]) not in powers:
        call.node.refuse(f"its exponent is {exponent.tolist()}; allowed is 0.5, 1 or 2", "write it as products")
    return _unary(powers[float(exponent.ravel()[0])])(call)


def _gelu(call: Call) -> View:
    return _unary(lambda x: tf.nn.gelu(x, approximate=call.attribute("approximate", "none") == "tanh"))(call)


def _batch_normalization(call: Call) -> View:
    view = call.view()
    scale, bias, mean, variance = (call.constant(position).astype(np.float64) for position in range(1, 5))
    factor = scale / np.sqrt(variance + float(call.attribute("epsilon", 1e-5)))
    per_channel = (-1,) + (1,) * (len(view.axes) - 2)
    scaled = combined(view, factor.astype(np.float32).reshape(per_channel), tf.math.multiply)
    return combined(scaled, (bias - mean * factor).astype(np.float32).reshape(per_channel), tf.math.add)


OPERATORS: Final[Mapping[str, Callable[[Call], View]]] = {
    "Abs": _unary(tf.math.abs, nonnegative=True),
    "Add": _binary(tf.math.add),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Div": _divide,
    "Dropout": _same,
    "Elu": _elu,
    "Erf": _unary(tf.math.erf),
    "Exp": _unary(tf.math.exp, nonnegative=True),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(_hard_swish),
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "Log": _unary(tf.math.log),
    "Max": _variadic(tf.math.maximum),
    "Min": _variadic(tf.math.minimum),
    "Mul": _binary(tf.math.multiply),
    "Neg": _unary(tf.math.negative),
    "PRelu": _prelu,
    "Pow": _power,
    "Relu": _unary(tf.nn.relu, nonnegative=True),
    "Sigmoid": _unary(tf.math.sigmoid, nonnegative=True),
    "Sqrt": _unary(tf.math.sqrt, nonnegative=True),
    "Sub": _binary(tf.math.subtract),
    "Sum": _variadic(tf.math.add),
    "Tanh": _unary(tf.math.tanh),
}
