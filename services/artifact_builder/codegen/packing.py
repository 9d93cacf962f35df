"""How the numbers of output channels are stored: biases in 16 bits where all fit, shifts in bits that others spare.

`struct el_requantisation` of the kernels says what the bits mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from services.artifact_builder.codegen.layers import Layer, Values

BIAS: Final = "requantisation.bias"
SHIFT: Final = "requantisation.shift"
_MULTIPLIER: Final = "requantisation.multiplier"
_SHIFT_BITS_IN_BIAS: Final = 8
_BIASES_BESIDE_SHIFTS: Final = range(-(1 << 23), 1 << 23)
_MULTIPLIER_BITS: Final = 30
"""What is below the leading one of a multiplier; above, a word has room for two bits."""
_SHIFTS_IN_MULTIPLIERS: Final = 4


@dataclass(frozen=True, slots=True)
class Packing:
    """One for all layers of a model, so that kernels need not ask. Without weights there is nothing to pack."""

    narrow_biases: bool = False
    shifts_in_biases: bool = False
    shifts_in_multipliers: bool = False

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> "Packing":
        """Choose the smallest that holds the numbers of every layer."""
        biased = [layer for layer in layers if BIAS in layer.arrays]
        shifted = [layer for layer in biased if SHIFT in layer.arrays]
        narrow = bool(biased) and all(_lies_in(layer.arrays[BIAS], range(-(1 << 15), 1 << 15)) for layer in biased)
        return cls(
            narrow_biases=narrow,
            shifts_in_biases=bool(shifted)
            and not narrow
            and all(_lies_in(layer.arrays[BIAS], _BIASES_BESIDE_SHIFTS) for layer in shifted),
            shifts_in_multipliers=bool(shifted) and narrow and all(map(_has_spare_bits, shifted)),
        )

    def features(self) -> Mapping[str, int]:
        """Return the macros of edgeloop_features.h."""
        return {
            "EL_NARROW_BIASES": int(self.narrow_biases),
            "EL_SHIFTS_IN_BIASES": int(self.shifts_in_biases),
            "EL_SHIFTS_IN_MULTIPLIERS": int(self.shifts_in_multipliers),
        }

    def pack(self, layer: Layer) -> Layer:
        """Return the layer with its numbers as they are stored."""
        if BIAS not in layer.arrays:
            return layer
        arrays: dict[str, Values] = dict(layer.arrays)
        fields = layer.fields
        if SHIFT in arrays and self.shifts_in_biases:
            shift = arrays.pop(SHIFT).astype(np.int32)
            arrays[BIAS] = (arrays[BIAS].astype(np.int32) << _SHIFT_BITS_IN_BIAS) | (shift & 0xFF)
        if SHIFT in arrays and self.shifts_in_multipliers:
            shift = arrays.pop(SHIFT).astype(np.int64)
            largest = int(shift.max())
            mantissa = arrays[_MULTIPLIER].astype(np.int64) & ((1 << _MULTIPLIER_BITS) - 1)
            arrays[_MULTIPLIER] = (mantissa | (largest - shift) << _MULTIPLIER_BITS).astype(np.uint32).view(np.int32)
            fields = _with_largest_shift(fields, largest)
        if self.narrow_biases:
            arrays[BIAS] = arrays[BIAS].astype(np.int16)
        return replace(layer, arrays=arrays, fields=fields)


def _lies_in(values: Values, numbers: range) -> bool:
    return bool(((numbers.start <= values) & (values < numbers.stop)).all())


def _has_spare_bits(layer: Layer) -> bool:
    """Whether every multiplier has its leading one where it belongs, and the shifts are near each other."""
    shift = layer.arrays[SHIFT].astype(np.int32)
    normal = layer.arrays[_MULTIPLIER] >= 1 << _MULTIPLIER_BITS
    return bool(normal.all() and shift.max() - shift.min() < _SHIFTS_IN_MULTIPLIERS)


def _with_largest_shift(fields: Mapping[str, object], largest: int) -> Mapping[str, object]:
    inner = fields["requantisation"]
    assert isinstance(inner, Mapping)
    return {**fields, "requantisation": {**inner, "largest_shift": largest}}
