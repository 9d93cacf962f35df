"""Ports that stay the same over restarts, so that a webhook address given to a forge stays right."""

import contextlib
import json
from pathlib import Path

from edgeloop.errors import InfrastructureError
from edgeloop.layout import write_json
from shared.bus.embedded import is_free


class Ports:
    """Which process listened where, kept in a file. A port that was asked for wins; a remembered one if it is free."""

    def __init__(self, file: Path, asked: dict[str, int]) -> None:
        self._file = file
        self._asked = asked
        try:
            self._remembered: dict[str, int] = json.loads(file.read_bytes())
        except (FileNotFoundError, ValueError):
            self._remembered = {}

    def require_asked(self) -> None:
        """Check the ports that a person asked for.

        Raises:
            InfrastructureError: one is taken.
        """
        for name, port in self._asked.items():
            if not is_free(port):
                raise InfrastructureError(
                    f"port {port} for {name} is in use by another program",
                    next_step=f"find it with `ss -ltnp 'sport = :{port}'`, or ask for no port: any free one is taken",
                )

    def wanted(self, name: str) -> int:
        """Return the port to ask for, 0 for any free one."""
        if name in self._asked:
            return self._asked[name]
        port = self._remembered.get(name, 0)
        return port if port and is_free(port) else 0

    def fixed(self, name: str) -> int:
        """Return the port that `name` has had in this run and must have again, since others know it."""
        return self._asked.get(name) or self._remembered.get(name, 0)

    def remember(self, name: str, port: int) -> None:
        """Keep what was taken."""
        if self._remembered.get(name) != port:
            self._remembered[name] = port
            # On a full disk it is not kept, which costs the same port next time, and ends nothing.
            with contextlib.suppress(OSError):
                write_json(self._file, self._remembered)
