"""How biases, multipliers and shifts are stored: smaller, and without losing a bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.artifact_builder.codegen.graph import ElementType, Tensor
from services.artifact_builder.codegen.layers import Layer
from services.artifact_builder.codegen.packing import Packing

_TENSOR = Tensor(
    index=0, name="t", shape=(1,), type=ElementType.INT8, type_name="int8", scales=(1.0,), zero_points=(0,), data=None
)
_NORMAL = st.integers(1 << 30, (1 << 31) - 1)

Channels = list[tuple[int, int, int]]
"""Bias, multiplier and shift of every channel."""


def _layer(channels: Channels) -> Layer:
    bias, multiplier, shift = zip(*channels, strict=True)
    return Layer(
        kernel="el_conv2d",
        inputs=(_TENSOR,),
        output=_TENSOR,
        fields={"requantisation": {"minimum": -128}},
        arrays={
            "requantisation.bias": np.array(bias, np.int32),
            "requantisation.multiplier": np.array(multiplier, np.int32),
            "requantisation.shift": np.array(shift, np.int8),
        },
    )


def _unpacked(layer: Layer, packing: Packing) -> Channels:
    """Read as requantise.h does."""

    def numbers(name: str) -> list[int]:
        values: NDArray[np.generic] = layer.arrays[f"requantisation.{name}"]
        return [int(value) for value in values.tolist()]

    bias, multiplier = numbers("bias"), numbers("multiplier")
    if packing.shifts_in_biases:
        shift = [(word & 0xFF) - ((word & 0x80) << 1) for word in bias]
        bias = [word >> 8 for word in bias]
    elif packing.shifts_in_multipliers:
        fields = layer.fields["requantisation"]
        assert isinstance(fields, dict)
        shift = [fields["largest_shift"] - ((word & 0xFFFFFFFF) >> 30) for word in multiplier]
        multiplier = [(word & 0x3FFFFFFF) | 0x40000000 for word in multiplier]
    else:
        shift = numbers("shift")
    return list(zip(bias, multiplier, shift, strict=True))


def _size_bytes(layer: Layer) -> int:
    return sum(values.nbytes for values in layer.arrays.values())


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(-(1 << 31), (1 << 31) - 1), st.just(0) | _NORMAL, st.integers(-31, 30)), min_size=1
        )
        | st.lists(st.tuples(st.integers(-(1 << 15), (1 << 15) - 1), _NORMAL, st.integers(-9, -6)), min_size=1),
        min_size=1,
        max_size=3,
    )
)
def test_what_was_packed_is_read_back(model: list[Channels]) -> None:
    layers = [_layer(channels) for channels in model]
    packing = Packing.of(layers)
    assert [_unpacked(packing.pack(layer), packing) for layer in layers] == model
    assert all(_size_bytes(packing.pack(layer)) <= _size_bytes(layer) for layer in layers)


@pytest.mark.parametrize(
    ("channels", "size_bytes"),
    [
        ([((1 << 15) - 1, 1 << 30, -9), (-(1 << 15), 1 << 30, -6)], 6),
        ([(0, 1 << 30, -10), (0, 1 << 30, -6)], 7),
        ([(0, 0, 0), (0, 1 << 30, 0)], 7),
        ([(1 << 15, 1 << 30, -6), (0, 1 << 30, -6)], 8),
        ([((1 << 23) - 1, 1 << 30, -9), (-(1 << 23), 0, -31)], 8),
        ([(1 << 23, 1 << 30, -6), (0, 1 << 30, -6)], 9),
    ],
    ids=[
        "small biases, shifts near each other",
        "shifts that two bits cannot tell apart",
        "a multiplier of zero",
        "a bias of 17 bits",
        "biases of 24 bits",
        "a bias of 25 bits",
    ],
)
def test_a_channel_takes_few_bytes(channels: Channels, size_bytes: int) -> None:
    layer = _layer(channels)
    assert _size_bytes(Packing.of([layer]).pack(layer)) == size_bytes * len(channels)


def test_one_layer_that_needs_more_decides_for_all() -> None:
    small, large = _layer([(1, 1 << 30, -6)]), _layer([(1 << 23, 1 << 30, -6)])
    assert Packing.of([small]) == Packing(narrow_biases=True, shifts_in_multipliers=True)
    assert Packing.of([small, large]) == Packing()


def test_layers_without_biases_stay_as_they_are() -> None:
    plain = Layer(kernel="el_pad", inputs=(_TENSOR,), output=_TENSOR, fields={})
    assert Packing.of([plain]) == Packing()
    assert Packing.of([plain]).pack(plain) is plain
