"""What the conversion calls: an ONNX file, from its bytes to a function, its canonical form and its comparison."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from services.artifact_builder.inputs.onnx.function import Arrangement, arranged, arrangement_of, function_of
from services.artifact_builder.inputs.onnx.parity import compare
from services.artifact_builder.inputs.onnx.reading import canonical_onnx, graph_of, read_onnx
from services.artifact_builder.inputs.problems import ModelError, first_line

_STUMBLES: Final = (TypeError, AttributeError, KeyError, IndexError, ArithmeticError, UnicodeError)


@dataclass(frozen=True, slots=True)
class LoadedOnnx:
    """A checked ONNX model."""

    function: Callable[[Any], Any]
    canonical: bytes
    scores: onnx.ModelProto
    """The model cut down to its scores, for onnxruntime: labels and dictionaries are not compared."""
    output: str
    arrangement: Arrangement

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """What `shared.releases.release.Recipe` records."""
        return (("onnx", onnx.__version__), ("onnxruntime", onnxruntime.__version__))

    def compare(self, float32: bytes, x: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Compare the converted model with onnxruntime; see `parity.compare`."""
        return compare(self.scores.SerializeToString(), float32, x, arranged(x, self.arrangement), self.output)


def load_onnx(data: bytes, window: tuple[int, ...]) -> LoadedOnnx:
    """Return the model.

    Raises:
        ModelError: it cannot be read, or does not take such windows.
    """
    try:
        model = read_onnx(data)
        graph = graph_of(model)
        arrangement = arrangement_of(graph, window)
        canonical, scores = canonical_onnx(data), _only(model, graph.output)
    except _STUMBLES as error:
        # onnx.checker lets damage pass that only reading meets: names that are no text, wrong types of attributes.
        raise ModelError(
            f"the ONNX file is damaged ({first_line(error)}). Next: export the model again, and try it in onnxruntime"
        ) from error
    return LoadedOnnx(function_of(graph, arrangement), canonical, scores, graph.output, arrangement)


def _only(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    scores = onnx.ModelProto()
    scores.CopyFrom(model)
    del scores.graph.output[:]
    scores.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return scores
