"""What a lowered operator is: one call of a kernel, with its constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.graph import Tensor

Values = NDArray[np.int8] | NDArray[np.int32]


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
