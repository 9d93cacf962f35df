"""The reference runtimes that boards and quantised models are compared with.

Int8 results come in two rounding families (`shared.events.lab.Numerics`): TFLM and CMSIS-NN round twice (gemmlowp),
LiteRT once. A parity gate compares inside one family; each module of a runtime says its own as `NUMERICS`.

The runtimes are native code that ends its process over some models. Everybody asks through `reference`, which runs them
in a process of their own; `tflm` and `litert` are what that process calls.
"""


class InferenceError(ValueError):
    """A runtime cannot run this model, or these inputs do not fit it."""


class RuntimeEndedError(InferenceError):
    """A runtime did not survive this model.

    Attributes:
        model: Digest of the model.
        signal: That ended the runtime; None when it left by itself.
        last_lines: What it said last.
    """

    def __init__(self, reason: str, *, model: str, signal: int | None, last_lines: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.model = model
        self.signal = signal
        self.last_lines = last_lines


class ReferenceUnavailableError(RuntimeError):
    """This machine gives no answer now. It says nothing about the model."""


class ReferenceMissingError(ReferenceUnavailableError):
    """A reference runtime is not installed, or there is none for this platform."""
