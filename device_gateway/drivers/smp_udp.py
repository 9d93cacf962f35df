"""MCUmgr boards over UDP, by `smpclient`."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import cbor2
from google.protobuf.message import DecodeError
from smp.error import MGMT_ERR, ErrorV1, ErrorV2
from smp.exceptions import SMPException
from smp.image_management import IMG_MGMT_ERR, ImageState
from smp.message import ReadResponse, WriteResponse
from smpclient import SMPClient
from smpclient.exceptions import SMPClientException, SMPUploadError
from smpclient.generics import SMPRequest, error
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.transport.udp import SMPUDPTransport

from device_gateway.drivers import (
    AddressError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceSilentError,
    Identity,
    ReadReport,
    SlotState,
)
from device_gateway.protocol import InferWrite, InfoRead, TelemetryRead
from shared.boards import ImageBoard
from shared.events.lab import BoardClass
from shared.telemetry import DeviceReport

# A silent board is nothing unusual, and smpclient would log each whole frame: the gateway says it where it matters.
logging.getLogger("smpclient").setLevel(logging.CRITICAL)

DEFAULT_PORT = 1337
_ATTEMPTS = 3
_ANSWER_TIMEOUT_S = 1.0
_INFERENCE_TIMEOUT_S = 10.0
_REPEAT_AFTER_S = 0.4
_ERASE_TIMEOUT_S = 15.0
"""A first chunk may wait for the whole slot to be erased."""
_CHUNK_OVERHEAD_BYTES = 64

TRep = TypeVar("TRep", bound=ReadResponse | WriteResponse)
TEr1 = TypeVar("TEr1", bound=ErrorV1)
TEr2 = TypeVar("TEr2", bound="ErrorV2[Any]")


class _Transport(SMPUDPTransport):
    """smpclient's UDP with a port in the address, repeats for lost datagrams, and deaf to late answers.

    Every request that is repeated may arrive twice: reads, and writes that name the state they want.
    """

    repeat_after_s: float | None = _REPEAT_AFTER_S
    """None: never. A reset that arrives twice would revert the trial that it began."""

    async def connect(self, address: str, timeout_s: float, port: int = DEFAULT_PORT) -> None:
        host, _, given = address.rpartition(":")
        await super().connect(host, timeout_s, int(given) if given else port)

    async def send_and_receive(self, data: bytes) -> bytes:
        while True:
            await self.send(data)
            try:
                async with asyncio.timeout(self.repeat_after_s):
                    while True:
                        frame = await self.receive()
                        # Group, sequence and command must be the request's: else it is an answer that came late.
                        if len(frame) >= 8 and frame[4:8] == data[4:8]:
                            return bytes(frame)
            except TimeoutError:
                continue
            except (struct.error, AssertionError, ValueError):
                continue  # Not SMP: somebody else's datagram.


class SmpUdpDriver:
    """`smp-udp`: address ``udp://HOST[:PORT]``."""

    def __init__(self, address: str, board: ImageBoard) -> None:
        """Check the address; nothing is sent before the first request.

        Raises:
            AddressError: it is not of that form.
        """
        try:
            url = urlsplit(address)
            port = url.port or DEFAULT_PORT
        except ValueError as problem:
            raise AddressError(f"{address!r}: {problem}; smp-udp takes udp://HOST[:PORT]") from problem
        if url.scheme != "udp" or not url.hostname or url.path not in {"", "/"}:
            raise AddressError(f"{address!r} is no address for smp-udp, which takes udp://HOST[:PORT]")
        self._board = board
        self._transport = _Transport()
        self._client = SMPClient(self._transport, f"{url.hostname}:{port}", timeout_s=_ANSWER_TIMEOUT_S)
        self._connected = False

    async def identify(self) -> Identity:
        """Ask group 64; foreign firmware does not have it, and only real boards carry foreign firmware."""
        try:
            info = await self._request(InfoRead())
        except DeviceRefusedError:
            return Identity(board="", board_class=BoardClass.PHYSICAL)
        known = info.board_class in tuple(BoardClass)
        return Identity(board=info.board, board_class=BoardClass(info.board_class) if known else BoardClass.PHYSICAL)

    async def read_state(self) -> tuple[SlotState, ...]:
        """Read MCUmgr's image states."""
        response = await self._request(ImageStatesRead())
        return tuple(_slot(image) for image in response.images)

    async def upload(self, image: bytes) -> AsyncIterator[int]:
        """Upload with the content's hash, by which the board resumes."""
        await self._connect()
        self._transport.repeat_after_s = _ANSWER_TIMEOUT_S / 2
        try:
            async for offset in self._client.upload(image, first_timeout_s=_ERASE_TIMEOUT_S):
                yield offset
        except TimeoutError as problem:
            raise DeviceSilentError(f"no answer in the middle of the upload to {self._client.address}") from problem
        except SMPUploadError as problem:
            _refuse(problem.args[0] if problem.args else problem)
        except (SMPClientException, SMPException, cbor2.CBORError, ValueError, TypeError, OSError) as problem:
            raise DeviceSilentError(f"the upload to {self._client.address} broke: {problem}") from problem

    async def test(self, image_hash: str) -> None:
        """Mark for test; when it already runs, there is nothing to do."""
        try:
            await self._request(ImageStatesWrite(hash=bytes.fromhex(image_hash)))
        except DeviceRefusedError as problem:
            if problem.code is not IMG_MGMT_ERR.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED:
                raise

    async def confirm(self, image_hash: str) -> None:
        """Confirm by hash: an image that is not the running one must not be made permanent by mistake."""
        states = await self.read_state()
        if not any(slot.active and slot.image_hash == image_hash for slot in states):
            raise DeviceRefusedError(f"image {image_hash[:12]} is not the running one, so it is not confirmed")
        await self._request(ImageStatesWrite(hash=bytes.fromhex(image_hash), confirm=True))

    async def reset(self) -> None:
        """Ask for a reset."""
        await self._request(ResetWrite(), repeat_after_s=None)

    async def infer(self, tensor: bytes) -> bytes:
        """Send the tensor in chunks that fit a datagram."""
        await self._connect()
        room = self._transport.max_unencoded_size - _CHUNK_OVERHEAD_BYTES
        offset = 0
        for _ in range(_ATTEMPTS * (1 + len(tensor) // room)):
            response = await self._request(
                InferWrite(
                    off=offset, data=tensor[offset : offset + room], **({"len": len(tensor)} if offset == 0 else {})
                ),
                timeout_s=_INFERENCE_TIMEOUT_S,
                repeat_after_s=_INFERENCE_TIMEOUT_S / 4,
            )
            if response.output is not None:
                return response.output
            offset = response.off
        raise DeviceRefusedError(f"the board never took the whole input of {len(tensor)} bytes")

    async def read_telemetry(self, after: int) -> ReadReport | None:
        """Read group 64's telemetry; firmware without it has none."""
        try:
            response = await self._request(TelemetryRead(after=after))
        except DeviceRefusedError:
            return None
        if response.report is None or response.hash is None:
            return None
        try:
            report = DeviceReport.FromString(response.report)
        except DecodeError as problem:
            raise DeviceRefusedError(f"{self._client.address} answers a damaged telemetry report") from problem
        return ReadReport(response.hash.hex(), report, response.more)

    async def close(self) -> None:
        """Close the socket."""
        if self._connected:
            self._connected = False
            await self._client.disconnect()

    async def _connect(self) -> None:
        if self._connected:
            return
        try:
            await self._transport.connect(self._client.address, _ANSWER_TIMEOUT_S)
        except (OSError, TimeoutError) as problem:
            raise DeviceSilentError(f"cannot reach {self._client.address}: {problem}") from problem
        self._connected = True

    async def _request(
        self,
        request: SMPRequest[TRep, TEr1, TEr2],
        *,
        timeout_s: float = _ANSWER_TIMEOUT_S,
        repeat_after_s: float | None = _REPEAT_AFTER_S,
    ) -> TRep:
        """Send a request.

        Raises:
            DeviceSilentError: nothing came back.
            DeviceBusyError: the board says EBUSY.
            DeviceRefusedError: the board says no.
        """
        await self._connect()
        try:
            self._transport.repeat_after_s = repeat_after_s
            response = await self._client.request(request, timeout_s=timeout_s)
        except TimeoutError as problem:
            raise DeviceSilentError(f"no answer from {self._client.address} in {timeout_s:g} s") from problem
        except (SMPClientException, SMPException, cbor2.CBORError, ValueError, TypeError, OSError) as problem:
            # Whatever garbage makes the decoder raise is the board's fault, not ours.
            raise DeviceRefusedError(f"{self._client.address} answers what is not SMP: {problem}") from problem
        if error(response):
            _refuse(response)
        return cast("TRep", response)


def _slot(image: ImageState) -> SlotState:
    numbers = image.version.split(".")
    return SlotState(
        image_hash=image.hash.hex() if image.hash else "",
        version=".".join(numbers[:3]) + (f"+{numbers[3]}" if len(numbers) > 3 else ""),
        active=bool(image.active),
        confirmed=bool(image.confirmed),
        pending=bool(image.pending),
    )


def _refuse(response: object) -> None:
    """Raise what an SMP error means."""
    if isinstance(response, ErrorV2):
        refusal = DeviceRefusedError(f"the board refuses: {response.err.rc.name}", response.err.rc)
    elif isinstance(response, ErrorV1):
        if response.rc is MGMT_ERR.EBUSY:
            raise DeviceBusyError("the board is busy")
        refusal = DeviceRefusedError(f"the board refuses: {response.rc.name}", response.rc)
    else:
        refusal = DeviceRefusedError(f"the board refuses: {response}")
    raise refusal
