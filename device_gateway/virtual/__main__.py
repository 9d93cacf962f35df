"""`python -m device_gateway.virtual`: run the boards that EDGELOOP_VIRTUAL_CONFIG lists until SIGTERM."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
from pydantic import ValidationError
from ruamel.yaml.error import YAMLError

from device_gateway.virtual.api import application
from device_gateway.virtual.bootloader import NothingBootableError
from device_gateway.virtual.flash import FlashError
from device_gateway.virtual.host import HOST, Host, running_host
from device_gateway.virtual.settings import VirtualConfig, VirtualSettings
from device_gateway.virtual.world import WorldError
from shared.artifacts.keys import PublicKeyError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it ends, which would look like a crash."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: VirtualConfig, listener: socket.socket) -> None:
    """Run the boards, and their HTTP interface on `listener`, until SIGTERM or SIGINT."""
    async with running_host(config) as host:
        server = _Server(uvicorn.Config(application(host), log_config=None, lifespan="off", access_log=False))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        _write_state(config, host, listener.getsockname()[1])
        try:
            await server.serve(sockets=[listener])
        finally:
            config.state.unlink(missing_ok=True)


def _write_state(config: VirtualConfig, host: Host, port: int) -> None:
    """Say what runs where, all at once: whoever sees the file sees it whole."""
    state = {
        "pid": os.getpid(),
        "http": f"http://{HOST}:{port}",
        "name": "virtual_boards",
        "project": config.project,
        "boards": host.describe(),
    }
    config.state.parent.mkdir(parents=True, exist_ok=True)
    scratch = config.state.with_suffix(".new")
    scratch.write_text(json.dumps(state, indent=2))
    scratch.replace(config.state)


def _listen(port: int) -> socket.socket | None:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        sys.stderr.write(f"virtual boards: port {port} of {HOST}: {error}; set http_port to another, or 0 for any\n")
        return None


def main() -> int:
    """Return 0 after a graceful end, 2 for an unusable configuration, 3 when the port is taken or the disk is full."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    try:
        path = VirtualSettings().virtual_config
    except ValidationError:
        sys.stderr.write("virtual boards: EDGELOOP_VIRTUAL_CONFIG is not set; it must name a YAML or JSON file\n")
        return 2
    try:
        config = VirtualConfig.read(path)
        listener = _listen(config.http_port)
        if listener is None:
            return 3
        asyncio.run(serve(config, listener))
    except OSError as error:
        sys.stderr.write(f"virtual boards: {path}: {error}\n")
        return 3 if error.errno in _FULL else 2
    except (ValidationError, YAMLError, PublicKeyError, WorldError, FlashError, NothingBootableError) as error:
        sys.stderr.write(f"virtual boards: {path}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
