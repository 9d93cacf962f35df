"""A sandbox that is a container, asked for from a Docker engine.

Process 1 in it is the same supervisor as everywhere (`limits.py`), so that a step ends for the same reasons with the
same words; the engine adds what only a kernel's control groups can: memory and processes that cannot be exceeded even
for an instant. When the builder dies, its connection ends, with it the supervisor's standard input, with it the
container.
"""

import asyncio
import contextlib
import functools
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from services.artifact_builder.sandbox import limits as supervisor
from services.artifact_builder.sandbox.bubblewrap import FIRST_USER, IN_MEMORY_BYTES, TASKS_PER_PROCESS
from services.artifact_builder.sandbox.engines import Engine, Program
from services.artifact_builder.sandbox.processes import TAIL_BYTES, Ended, Order, SupervisorError, ended_of
from services.artifact_builder.sandbox.visible import covered, files_of_etc, hand_over, python_folders

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container as DockerContainer

LABEL: Final = "edgeloop.sandbox"
MEMORY_HEADROOM: Final = 1.25
"""The supervisor ends a step that uses too much and says so; the control group is for what is faster than it."""
CONNECT_S: Final = 10
_HEADER: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2
_ROOT_HOME: Final = "/root"
_REPORT_FD: Final = 2


@dataclass(frozen=True, slots=True)
class Container:
    """Runs programs in containers of one image."""

    image: str
    image_python: str
    scratch: Path
    hidden: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()

    @property
    def engine(self) -> Engine:
        return Engine.CONTAINER

    async def run(self, program: Program) -> Ended:
        """As `Sandbox.run`."""
        import docker.errors  # noqa: PLC0415 - only where containers are used

        name = f"edgeloop-{uuid4()}"
        running = asyncio.ensure_future(asyncio.to_thread(self._run, program, name))
        try:
            return await asyncio.shield(running)
        except docker.errors.DockerException as error:
            raise SupervisorError(f"the container engine failed: {error}") from error
        except asyncio.CancelledError:
            await asyncio.to_thread(_remove, name)
            with contextlib.suppress(Exception):  # whatever it says of a container that was taken away
                await running
            raise

    def _run(self, program: Program, name: str) -> Ended:
        client = _client()
        try:
            with _created(client, self._specification(program, client, name)) as created:
                output = created.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
                try:
                    created.start()
                    output._sock.settimeout(program.limits.wall_s + CONNECT_S)  # noqa: SLF001 - the SDK hides it
                    tail, report = _streams(output)
                except TimeoutError as error:
                    raise SupervisorError(f"the container did not end within {program.limits.wall_s:g} s") from error
                finally:
                    _close(output)
                if not report.startswith(b"{"):
                    said = report.decode(errors="replace").strip()[-400:] or "nothing"
                    raise SupervisorError(f"the container's supervisor did not report; it said {said}")
                return ended_of(report, tail)
        finally:
            client.close()

    def _specification(self, program: Program, client: "docker.DockerClient", name: str) -> dict[str, Any]:
        user = _user_of(client)
        etc = files_of_etc(self.scratch / "etc", max(user, 0))
        if os.geteuid() == 0 and user > 0:
            hand_over((*program.writable, *program.readable), user)
        python = self.image_python or sys.executable
        shown = [*self.readable, *([] if self.image_python else python_folders())]
        order = Order(watched=tuple(map(str, program.writable)), lifeline=True)
        limits = program.limits
        return {
            "name": name,
            "image": self.image,
            "entrypoint": [python, "-I", "-S", supervisor.__file__],
            "command": [order.to_json(limits), str(_REPORT_FD), *program.command],
            "environment": dict(program.environment),
            "working_dir": str(program.cwd),
            "hostname": "sandbox",
            "user": f"{user}:{user}",
            "volumes": [
                *_doorway(self.scratch / "home-of-root", shown),
                *(f"{path}:{path}:ro" for path in (*shown, Path(supervisor.__file__))),
                *(f"/dev/null:{path}:ro" for path in covered(self.hidden, shown) if path.is_file()),
                *(f"{outside}:{inside}:ro" for inside, outside in etc.items() if inside != "/etc/hosts"),
                *(f"{path}:{path}:ro" for path in program.readable if path not in program.writable),
                *(f"{path}:{path}:rw" for path in program.writable),
            ],
            "tmpfs": {
                "/tmp": f"size={IN_MEMORY_BYTES},mode=1777",  # noqa: S108 - the container's own
                **{str(path): "size=4k" for path in covered(self.hidden, shown) if path.is_dir()},
            },
            "shm_size": IN_MEMORY_BYTES,
            "network_mode": "none",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "mem_limit": int(limits.memory_bytes * MEMORY_HEADROOM),
            "memswap_limit": int(limits.memory_bytes * MEMORY_HEADROOM),
            "pids_limit": limits.processes * TASKS_PER_PROCESS,
            "ipc_mode": "private",
            "init": False,
            "auto_remove": True,  # when the builder was killed, nobody else would
            "stdin_open": True,
            "labels": {LABEL: "step"},
        }


def _doorway(folder: Path, shown: list[Path]) -> list[str]:
    """Return what lets others through /root, which images keep shut, when this machine's Python is in there."""
    inside = [path for path in shown if path.is_relative_to(_ROOT_HOME)]
    for path in inside:
        (folder / path.relative_to(_ROOT_HOME)).mkdir(parents=True, exist_ok=True)
    return [f"{folder}:{_ROOT_HOME}:ro"] if inside else []


def _streams(output: Any) -> tuple[bytes, bytes]:  # noqa: ANN401 - a socket in the SDK's wrapping
    """Read both streams to their end: the program's output, of which the end is kept, and the report.

    Source: the stream format of the Docker Engine API, "Attach to a container".
    """
    tail = report = b""
    while header := _exactly(output, _HEADER.size):
        stream, length = _HEADER.unpack(header)
        data = _exactly(output, length)
        if stream == _STDERR:
            report = (report + data)[-TAIL_BYTES:]
        else:
            tail = (tail + data)[-TAIL_BYTES:]
    return tail, report


def _close(output: Any) -> None:  # noqa: ANN401 - as above
    """Close all three layers of an attached socket: the SDK itself would leave two to the garbage collector."""
    connection = output._sock  # noqa: SLF001 - the SDK hides it
    output._response.close()  # noqa: SLF001 - as above
    output.close()
    connection.close()


def _exactly(output: Any, count: int) -> bytes:  # noqa: ANN401 - as above
    data = b""
    while len(data) < count and (part := output._sock.recv(count - len(data))):  # noqa: SLF001 - the SDK hides it
        data += part
    return data


@contextlib.contextmanager
def _created(client: "docker.DockerClient", specification: dict[str, Any]) -> "Iterator[DockerContainer]":
    """Create a container, and leave none behind."""
    container = client.containers.create(**specification)
    try:
        yield container
    finally:
        _remove_if_there(container)


def _remove(name: str) -> None:
    import docker.errors  # noqa: PLC0415 - as above

    client = _client()
    try:
        _remove_if_there(client.containers.get(name))
    except docker.errors.NotFound:
        return
    finally:
        client.close()


def _remove_if_there(container: "DockerContainer") -> None:
    import docker.errors  # noqa: PLC0415 - as above

    try:
        container.remove(force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:  # its removal is on the way already
            raise


def _client() -> "docker.DockerClient":
    import docker  # noqa: PLC0415 - as above

    return docker.from_env(timeout=60)


def _user_of(client: "docker.DockerClient") -> int:
    """Return whom the program runs as: nobody else's user; where the engine is rootless, 0 is the builder's own."""
    if any("rootless" in option for option in client.info().get("SecurityOptions") or ()):
        return 0
    return os.geteuid() or FIRST_USER + os.getpid()


@functools.cache
def trouble(image: str) -> str:
    """Return why containers of `image` do not work here, or an empty string."""
    try:
        import docker  # noqa: PLC0415 - as above
        import docker.errors  # noqa: PLC0415 - as above
    except ImportError:
        return "the Python package docker is not installed: pip install 'edgeloop[container]'"
    try:
        client = docker.from_env(timeout=CONNECT_S)
    except docker.errors.DockerException as error:
        return f"no Docker engine answers: {error}"
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return f"the engine has no image {image}: docker pull {image}"
    except docker.errors.DockerException as error:
        return f"the Docker engine refuses: {error}"
    finally:
        client.close()
    return ""
