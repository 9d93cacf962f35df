"""The bus for commands that only read: of a running stack, or of one that has stopped."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgeloop.errors import InfrastructureError
from edgeloop.layout import Layout, bus_url
from edgeloop.stack.lock import exclusive
from shared.bus import EmbeddedServer


@contextmanager
def readable_bus(nats_url: str | None, data: Path, say: Callable[[str], None]) -> Iterator[str]:
    """Lend a bus to read from: the one named, else that of the stack in `data`.

    A stopped stack leaves its messages behind; a server is then started over them for the length of the block.

    Raises:
        UsageError: the directory does not exist.
        InfrastructureError: there is no bus in it, or a stack is starting or stopping there.
        shared.bus.BusError: the server could not be started.
    """
    layout = Layout(data)
    if nats_url or layout.stack_state() or not layout.nats.is_dir():
        yield bus_url(nats_url, data)
        return
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(layout.lock_file))
        except InfrastructureError as error:
            raise InfrastructureError(
                f"{data.absolute()}: a stack is starting or stopping here", next_step="try again in a moment"
            ) from error
        server = held.enter_context(EmbeddedServer(layout.nats))
        say(f"no stack is running in {data}; this is what it left")
        yield server.url
