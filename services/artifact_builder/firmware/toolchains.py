"""What firmware can be compiled with: apart from compiling, so that a command line may offer it and import no more."""

from enum import StrEnum


class Toolchain(StrEnum):
    """The compilers that firmware can be built with."""

    ZIG = "zig"
    GCC = "gcc"


class Optimisation(StrEnum):
    """What the compiler aims at, as its flag.

    The kernels' inner loops are written out where that counts, so size costs next to no time on a core with the DSP
    extension: `benchmarks/kernels.py` shows all three.
    """

    SIZE = "-Os"
    SPEED = "-O2"
    FASTEST = "-O3"
