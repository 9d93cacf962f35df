"""The board's side of SMP: frames in, frames out, on the codec of the `smp` package.

Source: Zephyr, doc/services/device_mgmt/smp_protocol.rst and smp_groups/.
"""

import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

import cbor2
from pydantic import ValidationError
from smp import header as smp_header
from smp.error import MGMT_ERR
from smp.exceptions import SMPException
from smp.image_management import IMG_MGMT_ERR, ImageState, ImageStatesWriteRequest, ImageUploadWriteRequest
from smp.os_management import EchoWriteRequest

from device_gateway import protocol
from device_gateway.protocol import EdgeloopError
from device_gateway.virtual.slots import ImageRefusedError

BUFFER_BYTES = 1472
"""One datagram on Ethernet without fragmentation."""
BUFFER_COUNT = 4

_logger = logging.getLogger(__name__)
_HEADER = struct.Struct("!BBHHBB")
_READ, _WRITE = int(smp_header.OP.READ), int(smp_header.OP.WRITE)
_OS, _IMAGE = int(smp_header.GroupId.OS_MANAGEMENT), int(smp_header.GroupId.IMAGE_MANAGEMENT)
_OsCommand, _ImageCommand = smp_header.CommandId.OSManagement, smp_header.CommandId.ImageManagement

Body: TypeAlias = dict[str, Any]
"""A CBOR map: SMP's values are whatever CBOR carries."""

# What SMP version 1 says instead of a group's own code, as Zephyr translates them.
_VERSION_1: Mapping[IMG_MGMT_ERR, MGMT_ERR] = {
    IMG_MGMT_ERR.IMAGE_ALREADY_PENDING: MGMT_ERR.EBADSTATE,
    IMG_MGMT_ERR.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED: MGMT_ERR.EBADSTATE,
    IMG_MGMT_ERR.HASH_NOT_FOUND: MGMT_ERR.ENOENT,
    IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE: MGMT_ERR.ENOMEM,
}


class InferenceRefusedError(Exception):
    """The board cannot run its model on this input."""

    def __init__(self, rc: EdgeloopError) -> None:
        super().__init__(rc.name)
        self.rc = rc


class Firmware(Protocol):
    """What the server asks of the board that it runs on."""

    def image_states(self) -> list[ImageState]:
        """List the slots."""

    def set_image_state(self, image_hash: bytes | None, *, confirm: bool) -> None:
        """Mark for test or confirm; raises ImageRefusedError."""

    def upload(self, offset: int, data: bytes, *, length: int | None, sha: bytes | None) -> tuple[int, bool | None]:
        """Take a chunk of an image; raises ImageRefusedError."""

    def schedule_reset(self) -> None:
        """Reset a moment after the answer is out."""

    def info(self) -> Body:
        """Say who this is."""

    async def infer(self, tensor: bytes) -> bytes:
        """Run the model; raises InferenceRefusedError."""

    def telemetry(self, after: int) -> Body:
        """Return the report behind `after`."""


class _RefusedError(Exception):
    """A request that gets a general error code."""

    def __init__(self, rc: MGMT_ERR) -> None:
        super().__init__(rc.name)
        self.rc = rc


class SmpServer:
    """Answers requests for one board, one after the other."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self._tensor = bytearray()
        self._tensor_length = 0
        self._commands: Mapping[tuple[int, int, int], Callable[[bytes], Body | Awaitable[Body]]] = {
            (_WRITE, _OS, _OsCommand.ECHO): lambda frame: {"r": EchoWriteRequest.loads(frame).d},
            (_WRITE, _OS, _OsCommand.RESET): self._reset,
            (_READ, _OS, _OsCommand.MCUMGR_PARAMETERS): lambda _: {
                "buf_size": BUFFER_BYTES,
                "buf_count": BUFFER_COUNT,
            },
            (_READ, _IMAGE, _ImageCommand.STATE): lambda _: self._states(),
            (_WRITE, _IMAGE, _ImageCommand.STATE): self._set_state,
            (_WRITE, _IMAGE, _ImageCommand.UPLOAD): self._upload,
            (_READ, protocol.GROUP, protocol.INFO): lambda _: self._firmware.info(),
            (_WRITE, protocol.GROUP, protocol.INFER): self._infer,
            (_READ, protocol.GROUP, protocol.TELEMETRY): lambda frame: self._firmware.telemetry(
                protocol.TelemetryRead.loads(frame).after
            ),
        }

    async def answer(self, frame: bytes) -> bytes | None:
        """Return the response to a request, or none to what is not one."""
        if len(frame) < _HEADER.size:
            return None
        first, _, length, group, sequence, command = _HEADER.unpack_from(frame)
        op, version = first & 0b111, (first >> 3) & 0b11
        if op not in (_READ, _WRITE) or len(frame) != _HEADER.size + length:
            return None
        try:
            body = await self._dispatch(op, group, command, frame)
        except ImageRefusedError as error:
            body = _error(version, group, error.rc, _VERSION_1.get(error.rc, MGMT_ERR.EINVAL))
        except InferenceRefusedError as error:
            body = _error(version, group, error.rc, MGMT_ERR.EINVAL)
        except _RefusedError as error:
            body = {"rc": int(error.rc)}
        except (ValidationError, SMPException, cbor2.CBORDecodeError, ValueError, TypeError) as error:
            # Whatever a hostile datagram makes the decoder raise, the board lives on.
            _logger.debug("malformed request: %s", error)
            body = {"rc": int(MGMT_ERR.EINVAL)}
        payload = cbor2.dumps(body)
        return _HEADER.pack((version << 3) | (op + 1), 0, len(payload), group, sequence, command) + payload

    async def _dispatch(self, op: int, group: int, command: int, frame: bytes) -> Body:
        handler = self._commands.get((op, group, command))
        if handler is None:
            raise _RefusedError(MGMT_ERR.ENOTSUP)
        result = handler(frame)
        return result if isinstance(result, dict) else await result

    def _states(self) -> Body:
        return {"images": [state.model_dump(exclude_none=True) for state in self._firmware.image_states()]}

    def _reset(self, _: bytes) -> Body:
        self._firmware.schedule_reset()
        return {}

    def _set_state(self, frame: bytes) -> Body:
        request = ImageStatesWriteRequest.loads(frame)
        if request.hash is None and not request.confirm:
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_HASH)
        self._firmware.set_image_state(request.hash, confirm=request.confirm)
        return self._states()

    def _upload(self, frame: bytes) -> Body:
        request = ImageUploadWriteRequest.loads(frame)
        if request.image:
            raise ImageRefusedError(IMG_MGMT_ERR.INVALID_SLOT)
        offset, match = self._firmware.upload(request.off, request.data, length=request.len, sha=request.sha)
        return {"off": offset} | ({} if match is None else {"match": match})

    async def _infer(self, frame: bytes) -> Body:
        request = protocol.InferWrite.loads(frame)
        if request.off == 0:
            if request.len is None or not 0 < request.len <= 1 << 20:
                raise InferenceRefusedError(EdgeloopError.WRONG_LENGTH)
            self._tensor.clear()
            self._tensor_length = request.len
        if request.off == len(self._tensor):
            self._tensor += request.data
        if len(self._tensor) > self._tensor_length:
            raise InferenceRefusedError(EdgeloopError.WRONG_LENGTH)
        if len(self._tensor) < self._tensor_length:
            return {"off": len(self._tensor)}
        tensor = bytes(self._tensor)
        self._tensor.clear()
        return {"off": len(tensor), "output": await self._firmware.infer(tensor)}


def _error(version: int, group: int, rc: int, version_1: MGMT_ERR) -> Body:
    return {"rc": int(version_1)} if version == 0 else {"err": {"group": group, "rc": int(rc)}}
