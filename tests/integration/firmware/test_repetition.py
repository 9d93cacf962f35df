"""TILE, which TFLM has not: LiteRT's bits, a refusal by name, and what our conversion makes of it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from services.artifact_builder.codegen import UnsupportedModelError, generate
from services.artifact_builder.inputs.corrections import corrected
from shared.boards import image_board
from shared.emulation.on_unicorn import boot_unicorn
from shared.events.lab import Numerics
from tests.tflite_models import Model

Images = Callable[..., bytes]
Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]

_ROWS = np.random.default_rng(6).integers(-128, 128, (4, 12)).astype(np.int8)


def _tiles(*last: int) -> bytes:
    """Repeat single elements twice by one and the same constant, as Keras does, and whole rows by `last`."""
    model = Model()
    graph = model.main
    source = graph.input((1, 3, 1, 4), 0.1, 2)
    shapes = [(1, 3, 2, 4), (1, 6, 1, 4), (1, 6, 2, 4), (1, 6 * last[1], 2 * last[2], 4 * last[3])]
    wider, pixels, larger, made = (graph.tensor(shape, 0.1, 2) for shape in shapes)
    twice, shape, times = (
        graph.constant(np.array(values, np.int32)) for values in ([1, 1, 2, 1], [1, 6, 1, 4], list(last))
    )
    graph.operator("TILE", [source, twice], [wider], "Tile")
    graph.operator("RESHAPE", [wider, shape], [pixels], "Reshape", version=1)
    graph.operator("TILE", [pixels, twice], [larger], "Tile")
    graph.operator("TILE", [larger, times], [made], "Tile")
    graph.outputs.append(made)
    return model.pack()


def _on_the_core(tflite: bytes, numerics: Numerics, make_image: Images) -> list[bytes]:
    board = boot_unicorn(make_image(generate(tflite, numerics)), image_board("cortex-m4"))
    return [board.infer(row.tobytes()).output for row in _ROWS]


def test_tiles_match_litert(make_image: Images, litert: Reference) -> None:
    whole = _tiles(1, 1, 2, 3)
    assert _on_the_core(whole, Numerics.LITERT, make_image) == litert(whole, _ROWS.reshape(4, 3, 1, 4))


def test_tiles_are_refused_by_name_for_tflm_which_has_no_such_operator() -> None:
    with pytest.raises(UnsupportedModelError, match=r"TILE .*tensor 1 .*tflm.* no such operator.*numerics litert"):
        generate(_tiles(1, 1, 2, 3))


def test_repeated_single_elements_are_converted_so_that_both_runtimes_have_them(
    make_image: Images, litert: Reference, tflm: Reference
) -> None:
    whole = _tiles(1, 1, 1, 1)
    expected = litert(whole, _ROWS.reshape(4, 3, 1, 4))
    converted = corrected(whole)
    assert generate(converted).operators == ("BROADCAST_TO",)
    assert tflm(converted, _ROWS) == litert(converted, _ROWS.reshape(4, 3, 1, 4)) == expected
    assert _on_the_core(converted, Numerics.TFLM, make_image) == expected
    assert _on_the_core(converted, Numerics.LITERT, make_image) == expected


def test_whole_rows_stay_a_tile() -> None:
    assert generate(corrected(_tiles(1, 1, 2, 1)), Numerics.LITERT).operators == ("BROADCAST_TO", "TILE")
