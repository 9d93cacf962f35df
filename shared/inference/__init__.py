"""The reference runtimes that boards and quantised models are compared with.

Int8 results come in two rounding families (`shared.events.lab.Numerics`): TFLM and CMSIS-NN round twice (gemmlowp),
LiteRT once. A parity gate compares inside one family; each module here says its own as `NUMERICS`.
"""


class InferenceError(ValueError):
    """A runtime cannot run this model, or these inputs do not fit it."""


class ReferenceMissingError(RuntimeError):
    """A reference runtime is not installed, or there is none for this platform."""
