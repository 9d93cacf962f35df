"""The HTTP side of a service: /healthz, /readyz, /metrics, and its own routes beside them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

Probe = Callable[[], Awaitable[None]]
"""Returns when its part of the service is ready, raises with the reason when it is not."""


class PortInUseError(OSError):
    """Another process listens on the address that was asked for."""


class HttpServer:
    """A small server in the service's own event loop."""

    def __init__(self, host: str, port: int, *, probes: Mapping[str, Probe], routes: Sequence[BaseRoute] = ()) -> None:
        """Take the address at once, so that `url` is known; port 0 takes any free one.

        Raises:
            PortInUseError: the address is taken.
        """
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise PortInUseError(
                f"cannot listen on {host}:{port}: {error.strerror}; stop the process that has it, or set "
                "EDGELOOP_HTTP_PORT to another port (0 takes any free one)"
            ) from error
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        self._probes = probes
        self._app = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                *routes,
            ]
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the block ends."""
        server = _QuietServer(
            uvicorn.Config(self._app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5)
        )
        task = asyncio.create_task(server.serve(sockets=[self._socket]), name="http")
        try:
            yield
        finally:
            server.should_exit = True
            await task

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        found: dict[str, str] = {}
        for name, probe in self._probes.items():
            try:
                await probe()
            except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
                found[name] = f"{type(error).__name__}: {error}"
        ready = not found
        state = {name: found.get(name, "ready") for name in self._probes}
        return JSONResponse({"ready": ready, "parts": state}, status_code=200 if ready else 503)

    async def _metrics(self, _request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _QuietServer(uvicorn.Server):
    """Leaves signals to the service, which drains its consumers first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
