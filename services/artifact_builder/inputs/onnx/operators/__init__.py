"""One small function for each ONNX operator: from a `Call` to what it makes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from services.artifact_builder.inputs.onnx.graph import Call
from services.artifact_builder.inputs.onnx.operators import (
    convolutions,
    elementwise,
    linear,
    recurrent,
    reductions,
    resizing,
    shapes,
)
from services.artifact_builder.inputs.onnx.view import Array, View

Made: TypeAlias = "View | Array | Sequence[View | None]"
"""None stands for an output that no score depends on."""
Operator: TypeAlias = Callable[[Call], Made]

OPERATORS: Final[Mapping[str, Operator]] = {
    **elementwise.OPERATORS,
    **convolutions.OPERATORS,
    **linear.OPERATORS,
    **recurrent.OPERATORS,
    **reductions.OPERATORS,
    **resizing.OPERATORS,
    **shapes.OPERATORS,
}

_LOOPS: Final = "export the model with constant shapes and without branches; recurrent layers as ONNX's LSTM or GRU"
ADVICE: Final[Mapping[str, str]] = {
    "If": _LOOPS,
    "Loop": _LOOPS,
    "Scan": _LOOPS,
    "ai.onnx.ml.TreeEnsembleClassifier": "train an MLPClassifier or LogisticRegression: trees have no int8 form here",
    "ai.onnx.ml.TreeEnsemble": "train an MLPClassifier or LogisticRegression: trees have no int8 form here",
    "ai.onnx.ml.SVMClassifier": "train an MLPClassifier or LogisticRegression: support vectors have no int8 form here",
    "ai.onnx.ml.TreeEnsembleRegressor": "train a classifier: a release scores labels",
    "ai.onnx.ml.LinearRegressor": "train a classifier: a release scores labels",
    "QuantizeLinear": "export the float32 model: quantisation is done here, from the training data",
    "DequantizeLinear": "export the float32 model: quantisation is done here, from the training data",
    "QLinearConv": "export the float32 model: quantisation is done here, from the training data",
}
"""What to do about operators that are met and not converted."""
