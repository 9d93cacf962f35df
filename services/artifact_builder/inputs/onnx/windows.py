"""Where a convolution or pooling looks: kernel, strides, dilations and padding of ONNX, as TensorFlow has them."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.artifact_builder.inputs.onnx.graph import Call


@dataclass(frozen=True, slots=True)
class Window:
    """One entry for each spatial axis; axes in front are added to make it two-dimensional."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    sizes: tuple[int, ...]
    """Of the input."""

    @property
    def is_same(self) -> bool:
        """Whether the padding is what TensorFlow calls SAME."""
        return all(
            (before, after) == same_padding(size, kernel, stride, dilation)
            for size, kernel, stride, dilation, before, after in zip(
                self.sizes, self.kernel, self.strides, self.dilations, self.before, self.after, strict=True
            )
        )

    @property
    def is_padded(self) -> bool:
        """Whether there is padding at all."""
        return any(self.before) or any(self.after)

    @property
    def paddings(self) -> list[list[int]]:
        """The padding of a tensor (batch, *spatial, channels)."""
        return [[0, 0], *([before, after] for before, after in zip(self.before, self.after, strict=True)), [0, 0]]

    @property
    def remainders(self) -> list[int]:
        """How many elements of each axis, padding included, no window reaches."""
        return [
            (size + before + after - (kernel - 1) * dilation - 1) % stride
            for size, before, after, kernel, dilation, stride in zip(
                self.sizes, self.before, self.after, self.kernel, self.dilations, self.strides, strict=True
            )
        ]

    def two_dimensional(self) -> "Window":
        """Return the window with a height of one in front when it has one axis."""
        missing = 2 - len(self.kernel)
        # Depthwise kernels want equal strides, and over a height of one any stride is right.
        return Window(
            (1,) * missing + self.kernel,
            self.strides[:1] * missing + self.strides,
            (1,) * missing + self.dilations,
            (0,) * missing + self.before,
            (0,) * missing + self.after,
            (1,) * missing + self.sizes,
        )


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of one axis; the odd one is behind."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def window_of(call: Call, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """Return the window that a node's attributes describe over an input of the spatial `sizes`."""
    rank = len(sizes)
    if len(kernel) != rank or rank not in (1, 2):
        call.node.refuse(
            f"its kernel has {len(kernel)} spatial axes over an input of {rank}; allowed are 1 and 2",
            "use a convolution or pooling in one or two dimensions",
        )
    strides = [int(value) for value in call.attribute("strides", [1] * rank)]
    dilations = [int(value) for value in call.attribute("dilations", [1] * rank)]
    before, after = _padding(call, list(kernel), strides, dilations, list(sizes))
    lengths = {len(values) for values in (strides, dilations, before, after)}
    if lengths != {rank} or min([*kernel, *strides, *dilations, 1]) < 1 or min([*before, *after, 0]) < 0:
        call.node.refuse("its strides, dilations or pads do not fit its kernel", "export the model again")
    window = Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(after), tuple(sizes))
    if call.attribute("ceil_mode", 0) and any(window.remainders):
        call.node.refuse("with ceil_mode its last window leaves the input", "use padding, or sizes that fit")
    return window


def _padding(
    call: Call, kernel: list[int], strides: list[int], dilations: list[int], sizes: list[int]
) -> tuple[list[int], list[int]]:
    rank = len(sizes)
    mode = call.attribute("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = [int(value) for value in call.attribute("pads", [0] * 2 * rank)]
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    pairs = [same_padding(*axis) for axis in zip(sizes, kernel, strides, dilations, strict=True)]
    if mode == "SAME_LOWER":
        pairs = [(after, before) for before, after in pairs]
    elif mode != "SAME_UPPER":
        call.node.refuse(f"its auto_pad is {mode}", "use NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    return [before for before, _ in pairs], [after for _, after in pairs]
