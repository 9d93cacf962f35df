"""Lowering of QUANTIZE and DEQUANTIZE: between int8 and the types that a model may have at its edges."""

from typing import Final

import numpy as np

from services.artifact_builder.codegen import litert
from services.artifact_builder.codegen.fixed_point import quantise_multiplier
from services.artifact_builder.codegen.graph import ElementType, Operator, Tensor
from services.artifact_builder.codegen.layers import Layer, Lowered
from services.artifact_builder.codegen.tables import requantisation_table
from shared.events.lab import Numerics

_RANGES: Final = {
    ElementType.INT8: (-128, 127),
    ElementType.UINT8: (0, 255),
    ElementType.INT16: (-32768, 32767),
}


def lower_quantise(operator: Operator, numerics: Numerics) -> Lowered:
    """Lower float32 to int8 or int16, and a change of scale between integer types."""
    source, output = operator.input(0), operator.output
    _require_quantised(operator, output)
    _require_same_size(operator, source, output)
    if source.type is ElementType.FLOAT32:
        if output.type is ElementType.UINT8:
            raise operator.unsupported(f"it makes {output.type_name} of float32", "Convert the model with int8 input")
        if numerics is Numerics.LITERT:
            fields = litert.quantisation_of_floats(operator, source)
            return [Layer("el_litert_quantise", (source,), output, fields)]
        return [_quantise_floats(source, output)]
    _require_quantised(operator, source)
    by = quantise_multiplier(source.scale / output.scale)
    if source.type is output.type is ElementType.INT8:
        table = np.array(requantisation_table(operator, source, numerics), np.int8)
        return [Layer("el_lookup", (source,), output, {"size": source.size}, {"table": table})]
    if numerics is Numerics.LITERT:
        litert.require_equal_scales(operator, source)
    low, high = _RANGES[output.type]
    call = Layer(
        kernel=f"el_requantise_{source.type}_to_{output.type}",
        struct="el_requantise_types",
        inputs=(source,),
        output=output,
        fields={
            "size": source.size,
            "input_zero_point": source.zero_point,
            "output_zero_point": output.zero_point,
            "multiplier": by.multiplier,
            "shift": by.shift,
            "minimum": low,
            "maximum": high,
        },
    )
    if (source.type, output.type) not in _TYPE_CHANGES:
        raise operator.unsupported(
            f"it makes {output.type_name} of {source.type_name}",
            "int16 and uint8 are supported at the model's edges; convert with int8 inside",
        )
    return [call]


_TYPE_CHANGES: Final = frozenset(
    {
        (ElementType.UINT8, ElementType.INT8),
        (ElementType.INT8, ElementType.UINT8),
        (ElementType.INT16, ElementType.INT8),
        (ElementType.INT8, ElementType.INT16),
    }
)


def _quantise_floats(source: Tensor, output: Tensor) -> Layer:
    low, high = _RANGES[output.type]
    return Layer(
        kernel=f"el_quantise_to_{output.type}",
        struct="el_quantise",
        inputs=(source,),
        output=output,
        fields={
            "size": source.size,
            "scale": f"{float(np.float32(output.scale)).hex()}f",
            "zero_point": output.zero_point,
            "minimum": low,
            "maximum": high,
        },
    )


def lower_dequantise(operator: Operator) -> Lowered:
    """Lower an integer type to float32."""
    source, output = operator.input(0), operator.output
    _require_quantised(operator, source)
    _require_same_size(operator, source, output)
    if output.type is not ElementType.FLOAT32:
        raise operator.unsupported(f"it makes {output.type_name}; float32 is supported", "Convert the model again")
    return [
        Layer(
            kernel=f"el_dequantise_{source.type}",
            struct="el_dequantise",
            inputs=(source,),
            output=output,
            fields={
                "size": source.size,
                "scale": f"{float(np.float32(source.scale)).hex()}f",
                "zero_point": source.zero_point,
            },
        )
    ]


def _require_quantised(operator: Operator, tensor: Tensor) -> None:
    if tensor.type not in _RANGES:
        raise operator.unsupported(
            f"{tensor.label} is {tensor.type_name}; {', '.join(_RANGES)} are supported",
            "Convert with full int8 quantisation",
        )
    if len(tensor.scales) != 1:
        raise operator.unsupported(f"{tensor.label} has {len(tensor.scales)} scales instead of one", "Convert again")
    low, high = _RANGES[tensor.type]
    if not low <= tensor.zero_point <= high:
        raise operator.malformed(f"{tensor.label} has the zero point {tensor.zero_point}, outside {tensor.type_name}")


def _require_same_size(operator: Operator, source: Tensor, output: Tensor) -> None:
    if source.size != output.size:
        raise operator.malformed("input and output differ in size")
