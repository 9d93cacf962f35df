"""What a lowered operator is: calls of kernels with their constants, and tensors that share bytes with others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.graph import Tensor

Values = NDArray[np.int8] | NDArray[np.int16] | NDArray[np.int32] | NDArray[np.uint16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A call of `kernel` with a constant `struct kernel`.

    `fields` are the C initialisers by member; a nested mapping is a nested struct. `arrays` become constants of their
    own, and members of the same name (dots reach into nested structs) point at them.
    """

    kernel: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    fields: Mapping[str, object]
    arrays: Mapping[str, Values] = field(default_factory=dict)
    macs: int = 0
    struct: str = ""
    """The kernel's struct, where several kernels share one."""
    states: tuple[Tensor, ...] = ()
    """Tensors that the kernel reads and writes; its arguments after the output."""


@dataclass(frozen=True, slots=True)
class View:
    """The bytes of `tensor` are bytes of another: they cost nothing."""

    tensor: Tensor
    of: Tensor
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """`view` if its tensor is free to be made right where `otherwise` would copy it to."""

    view: View
    otherwise: Layer


Lowered = Sequence[Layer | View | Join]
