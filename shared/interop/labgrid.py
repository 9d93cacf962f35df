"""A labgrid place as a board: borrowed through `labgrid-client`, reached through the serial port that it shares.

labgrid's own server stays in charge; nothing of it is repeated here. Its client has no machine-readable output, so the
lines of ``acquire``, ``show`` and ``release`` are read as labgrid 26.0 prints them: resources as Python literals.
"""

import ast
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

CLIENT: Final = "labgrid-client"
COORDINATOR: Final = "LG_COORDINATOR"
_RESOURCE: Final = re.compile(r"^(?:Acquired|Matching) resource '(?P<name>.*)' \((?P<path>[^)]*)\):$")
_ACQUIRED: Final = re.compile(r"^  acquired: (?P<by>.*)$", re.MULTILINE)
_TIMEOUT_S: Final = 30.0


class LabgridError(RuntimeError):
    """labgrid did not do what was asked. The message ends with what to do next."""


class LabgridMissingError(LabgridError):
    """Its client is not installed, or its coordinator does not answer."""


class PlaceTakenError(LabgridError):
    """Somebody else has the place: wait, or take another."""


class PlaceLostError(LabgridError):
    """The place was taken away from us, by `release --kick` or a coordinator that forgot: the board is not ours."""


class NoConsoleError(LabgridError):
    """The place shares no serial port that is up."""


@dataclass(frozen=True, slots=True)
class SharedPort:
    """Where a place's serial port is served, by labgrid's exporter and ser2net."""

    name: str
    host: str
    port: int
    speed: int
    protocol: str

    @property
    def url(self) -> str:
        """The port as pyserial names it."""
        scheme = "socket" if self.protocol == "raw" else "rfc2217"
        return f"{scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PlaceState:
    """What ``show`` says: who has the place, as ``host/user`` or nobody, and its serial ports that are up."""

    acquired_by: str
    ports: tuple[SharedPort, ...]


def parse_show(text: str) -> PlaceState:
    """Parse what ``labgrid-client show`` prints.

    Raises:
        LabgridError: it is something else.
    """
    acquired = _ACQUIRED.search(text)
    if acquired is None:
        raise LabgridError(
            f"`{CLIENT} show` said nothing of who has the place: {text[:80]!r}."
            " Next: check that the client is labgrid 23.1 or newer"
        )
    by = acquired["by"].strip()
    ports = tuple(port for name, resource in _resources(text) if (port := _port(name, resource)))
    return PlaceState("" if by == "None" else by, ports)


class BorrowedPlace:
    """A place that is ours from `__enter__` to `__exit__`.

    Warning: labgrid knows no deadlines. Whoever borrows a place for a lease releases it when the lease ends.
    """

    def __init__(self, place: str, *, coordinator: str = "", port: str = "") -> None:
        """Name it; nothing happens yet.

        Args:
            place: its name.
            coordinator: HOST:PORT; empty takes what labgrid's own settings say.
            port: the resource's name, where a place shares several serial ports.
        """
        self.place = place
        self._environment = os.environ | ({COORDINATOR: coordinator} if coordinator else {})
        self._wanted = port
        self._acquired_by = ""

    def __enter__(self) -> Self:
        """Acquire it.

        Raises:
            LabgridError: somebody else has it, or there is no such place.
        """
        self._run("acquire")
        try:
            self._acquired_by = self._state().acquired_by
        except BaseException:
            self._run("release")
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Release it.

        Raises:
            PlaceLostError: it was no longer ours: what ran last on the board may have been somebody else's doing.
        """
        self.require()
        self._run("release")

    def console(self) -> SharedPort:
        """Return where its serial port is.

        Raises:
            PlaceLostError: it is no longer ours.
            NoConsoleError: it shares none, or several and none of the wanted name.
        """
        ports = self.require().ports
        found = [port for port in ports if self._wanted in {"", port.name}]
        if len(found) == 1:
            return found[0]
        names = ", ".join(port.name for port in ports) or "none"
        wanted = f" named {self._wanted}" if self._wanted else ""
        raise NoConsoleError(
            f"place {self.place}: {len(found)} serial ports{wanted}; it shares {names}. Next: see `{CLIENT} -p"
            f" {self.place} show`, start its exporter, or name one of several ports"
        )

    def require(self) -> PlaceState:
        """Return the state of the place if it is still ours; a console must close when it is not.

        Raises:
            PlaceLostError: somebody took it.
        """
        state = self._state()
        if not self._acquired_by or state.acquired_by != self._acquired_by:
            raise PlaceLostError(
                f"place {self.place} is {self._said(state)}, no longer ours. Next: discard this run, and find out who"
                f" used `{CLIENT} release --kick`"
            )
        return state

    def _said(self, state: PlaceState) -> str:
        return f"held by {state.acquired_by}" if state.acquired_by else "free"

    def _state(self) -> PlaceState:
        return parse_show(self._run("show"))

    def _run(self, command: str) -> str:
        arguments = [CLIENT, "-p", self.place, command]
        try:
            done = subprocess.run(  # noqa: S603 - a list without a shell
                arguments, env=self._environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except FileNotFoundError as error:
            raise LabgridMissingError(
                f"no {CLIENT} on the PATH. Next: `pip install labgrid` in an environment of its own, and add that"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise LabgridMissingError(
                f"`{' '.join(arguments)}` took more than {_TIMEOUT_S:g} s. Next: check the coordinator ({COORDINATOR})"
            ) from error
        if done.returncode:
            raise _failure(self.place, " ".join(arguments), done.stderr.strip())
        return done.stdout


def _failure(place: str, command: str, said: str) -> LabgridError:
    last = said.splitlines()[-1] if said else "nothing"
    if re.search(r"already acquired", said):
        return PlaceTakenError(f"place {place} is taken: {last}. Next: wait for it, or use another place")
    if re.search(r"is not acquired|different user", said):
        return PlaceLostError(f"place {place}: {last}. Next: discard this run: the board was somebody else's")
    if re.search(r"[Cc]onnect|UNAVAILABLE", said):
        return LabgridMissingError(f"`{command}` said: {last}. Next: check the coordinator ({COORDINATOR})")
    return LabgridError(f"`{command}` said: {last}. Next: see `{CLIENT} places`")


def _resources(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    lines = text.splitlines()
    for index, line in enumerate(lines):
        head = _RESOURCE.match(line)
        if head is None:
            continue
        block = []
        for following in lines[index + 1 :]:
            if not following.startswith("  "):
                break
            block.append(following.strip())
        try:
            value = ast.literal_eval(" ".join(block))
        except (SyntaxError, ValueError) as error:
            raise LabgridError(
                f"`{CLIENT} show`: resource {head['name']} is no Python literal. Next: report it with labgrid's version"
            ) from error
        if isinstance(value, dict):
            yield head["name"], value


def _port(name: str, resource: Mapping[str, Any]) -> SharedPort | None:
    parameters = resource.get("params")
    if not resource.get("avail") or not isinstance(parameters, dict) or "Serial" not in str(resource.get("cls")):
        return None
    host, port = parameters.get("host"), parameters.get("port")
    if not isinstance(host, str) or not isinstance(port, int):
        return None
    return SharedPort(
        name, host, port, int(parameters.get("speed") or 115200), str(parameters.get("protocol") or "rfc2217")
    )
