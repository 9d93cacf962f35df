"""One stack per data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeloop.errors import InfrastructureError


@contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel frees it when this process ends, however it ends.

    Raises:
        InfrastructureError: another process holds it; the message names the process.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise InfrastructureError(
                f"{lock_file.parent.absolute()}: a stack is already running here (process {holder})",
                next_step=f"use that one, stop it with `kill {holder}`, or give this one another --data directory",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
