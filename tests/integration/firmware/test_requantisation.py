"""LiteRT's rounding in the kernels, for every sum and scale, against the same steps on numpy's float32.

The kernels are compiled for this machine: what runs here is what cores without an FPU run. The instruction that cores
with one use is compared with LiteRT itself in test_litert.py.
"""

import ctypes
import importlib.util
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

_KERNELS = Path(__file__).parents[3] / "firmware" / "kernels"
_SOURCE = """
#include "requantise.h"

int32_t nearest(float x)
{
    return el_nearest(x);
}

int32_t requantised(int32_t sum, float scale, int32_t zero_point, int32_t minimum, int32_t maximum)
{
    const struct el_requantisation to = {
        .scale = &scale, .output_zero_point = zero_point, .minimum = minimum, .maximum = maximum};
    return el_requantise(&to, 0, sum);
}
"""

_int8 = st.integers(-128, 127)
_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory, zig_cache: Path) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("host")
    (folder / "host.c").write_text(_SOURCE)
    (folder / "edgeloop_features.h").write_text("#define EL_SIZE_BITS 16\n")
    (folder / "numerics.h").write_text("#define EL_NUMERICS_LITERT 1\n")
    found = importlib.util.find_spec("ziglang")
    assert found is not None
    assert found.origin is not None
    zig = str(Path(found.origin).with_name("zig"))
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-nostdlib", "-fno-sanitize=all", f"-I{_KERNELS}", f"-I{folder}"]
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(zig_cache), "ZIG_LOCAL_CACHE_DIR": str(zig_cache)}
    subprocess.run([zig, "cc", *flags, "host.c", "-o", "host.so"], cwd=folder, env=environment, check=True)
    library = ctypes.CDLL(str(folder / "host.so"))
    library.nearest.argtypes = [ctypes.c_float]
    library.requantised.argtypes = [ctypes.c_int32, ctypes.c_float, *[ctypes.c_int32] * 3]
    return library


@pytest.fixture(scope="module")
def nearest(kernels: ctypes.CDLL) -> Callable[[float], int]:
    return lambda value: int(kernels.nearest(value))


@given(value=_float32)
@example(value=0.5)
@example(value=1.5)
@example(value=-2.5)
@example(value=0.49999997)
@example(value=-0.50000006)
@example(value=4194303.5)
def test_whole_numbers_are_the_nearest_and_ties_go_to_even(nearest: Callable[[float], int], value: float) -> None:
    if abs(value) < 1 << 22:
        assert nearest(value) == round(value)
    else:
        assert abs(nearest(value)) >= 1 << 22
        assert (nearest(value) > 0) == (value > 0)


@given(
    total=st.integers(-(1 << 31), (1 << 31) - 1),
    scale=st.floats(2.0**-40, 255.0, width=32),
    zero_point=_int8,
    limits=st.tuples(_int8, _int8).map(sorted),
)
@example(total=(1 << 31) - 1, scale=255.0, zero_point=127, limits=[-128, 127])
@example(total=-(1 << 31), scale=255.0, zero_point=-128, limits=[-128, 127])
@example(total=5, scale=0.5, zero_point=0, limits=[-128, 127])
@example(total=16777217, scale=2.0**-18, zero_point=0, limits=[-128, 127])
def test_a_sum_is_scaled_in_float32_and_rounded_once(
    kernels: ctypes.CDLL, total: int, scale: float, zero_point: int, limits: list[int]
) -> None:
    scaled = float(np.float32(total) * np.float32(scale))
    expected = min(max(round(scaled) + zero_point, limits[0]), limits[1])
    assert kernels.requantised(total, scale, zero_point, *limits) == expected


@given(total=st.integers(-(1 << 31), (1 << 31) - 1), exponent=st.integers(1, 24))
def test_a_power_of_two_divides_exactly_where_float32_holds_the_sum(
    kernels: ctypes.CDLL, total: int, exponent: int
) -> None:
    held = total >> 8
    exact = min(max(round(math.ldexp(held, -exponent)), -128), 127)
    assert kernels.requantised(held, 2.0**-exponent, 0, -128, 127) == exact
