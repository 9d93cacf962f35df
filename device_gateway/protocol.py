"""SMP group 64: what Edgeloop's firmware answers besides MCUmgr's own groups. Both sides use these messages.

| command | read or write | request | response |
|---|---|---|---|
| 0 info | read | nothing | board, running image, whether it runs a model |
| 1 infer | write | a chunk of the int8 input tensor | the offset wanted next; after the last chunk the output tensor |
| 2 telemetry | read | the last report's sequence that was stored | the next report, if there is one |

Tensors that do not fit one buffer travel in chunks, as images do: a chunk at another offset than the next is dropped
and answered with the right one.
"""

from enum import IntEnum, unique
from typing import Final

from pydantic import ConfigDict
from smp import error, message

GROUP: Final = 64
INFO: Final = 0
INFER: Final = 1
TELEMETRY: Final = 2

# A reader ignores what it does not know, so that newer firmware can say more.
_OPEN = ConfigDict(extra="ignore", frozen=True)


@unique
class EdgeloopError(IntEnum):
    """Why firmware refused a request of this group."""

    OK = 0
    UNKNOWN = 1
    NO_MODEL = 2
    WRONG_LENGTH = 3
    FAULT = 4


class ErrorV1(error.ErrorV1):
    """An error as SMP version 1 says it."""

    _GROUP_ID = GROUP


class ErrorV2(error.ErrorV2[EdgeloopError]):
    """An error as SMP version 2 says it."""

    _GROUP_ID = GROUP


class InfoReadResponse(message.ReadResponse):
    """Who the board is and what it runs."""

    model_config = _OPEN
    _GROUP_ID = GROUP
    _COMMAND_ID = INFO

    board: str
    """Name in the board catalogue."""
    board_class: str
    """How real it is: `virtual`, `emulated` or `physical`."""
    hash: bytes
    """The running image's hash."""
    model: bool
    """Whether it runs a model."""


class InferWriteResponse(message.WriteResponse):
    """How far the input is, or the result."""

    model_config = _OPEN
    _GROUP_ID = GROUP
    _COMMAND_ID = INFER

    off: int
    output: bytes | None = None


class TelemetryReadResponse(message.ReadResponse):
    """A closed report: the same until a read says that it was stored."""

    model_config = _OPEN
    _GROUP_ID = GROUP
    _COMMAND_ID = TELEMETRY

    hash: bytes | None = None
    """The image that was running while the report was taken."""
    report: bytes | None = None
    """A serialised DeviceReport without device and digest, which only the gateway knows."""
    more: bool = False
    """Another report is waiting."""


class InfoRead(message.ReadRequest):
    """Ask who the board is."""

    model_config = _OPEN
    _GROUP_ID = GROUP
    _COMMAND_ID = INFO
    _Response = InfoReadResponse
    _ErrorV1 = ErrorV1
    _ErrorV2 = ErrorV2


class InferWrite(message.WriteRequest):
    """Send a chunk of an input tensor; with its last byte the model runs."""

    model_config = _OPEN
    _GROUP_ID = GROUP
    _COMMAND_ID = INFER
    _Response = InferWriteResponse
    _ErrorV1 = ErrorV1
    _ErrorV2 = ErrorV2

    off: int
    data: bytes
    len: int | None = None
    """Of the whole tensor; required when `off` is 0."""


class TelemetryRead(message.ReadRequest):
    """Ask for the report that follows `after`; the board forgets those up to it."""

    model_config = _OPEN
    _GROUP_ID = GROUP
    _COMMAND_ID = TELEMETRY
    _Response = TelemetryReadResponse
    _ErrorV1 = ErrorV1
    _ErrorV2 = ErrorV2

    after: int
