"""Where things are below a stack's data directory, and what a running stack says about itself."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeloop.errors import InfrastructureError, UsageError


class StackState(BaseModel):
    """`stack.json`: written when the stack is ready, removed when it stops."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    nats_url: str
    webhook_url: str
    virtual_url: str | None = None
    services: dict[str, str]
    """The base URL of each service's health and metrics endpoint, by name."""


class ServiceState(BaseModel):
    """`run/<name>.json`: written by a service once it is ready."""

    model_config = ConfigDict(frozen=True, extra="allow")

    pid: int
    name: str
    http: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one data directory."""

    root: Path

    @property
    def stack_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "stack.lock"

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def signing_key(self) -> Path:
        return self.root / "keys" / "signing.pem"

    @property
    def verify_key(self) -> Path:
        return self.root / "keys" / "signing.pub.pem"

    @property
    def webhook_secret(self) -> Path:
        return self.root / "keys" / "webhook-secret"

    @property
    def virtual(self) -> Path:
        return self.root / "virtual"

    @property
    def virtual_config(self) -> Path:
        return self.root / "virtual.yaml"

    @property
    def gateway_config(self) -> Path:
        return self.root / "gateway.yaml"

    @property
    def lab_tickets(self) -> Path:
        return self.root / "lab" / "leases.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def state_file_of(self, name: str) -> Path:
        return self.root / "run" / f"{name}.json"

    def service_state(self, name: str) -> ServiceState | None:
        """Return what a service wrote when it became ready; None while it has not."""
        try:
            return ServiceState.model_validate_json(self.state_file_of(name).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def stack_state(self) -> StackState | None:
        """Return what the running stack wrote; None when none is running."""
        try:
            state = StackState.model_validate_json(self.stack_file.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        return state if process_lives(state.pid) else None


def process_lives(pid: int) -> bool:
    """Return whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def user_cache() -> Path:
    """Return where this user's caches are.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "edgeloop"


def compiler_cache() -> Path:
    """Return where the compiler keeps its runtime library: with the user, since every stack needs the same one."""
    return Path(os.environ.get("EDGELOOP_COMPILER_CACHE") or user_cache() / "zig").absolute()


def running_stack(data: Path) -> StackState:
    """Return the state of the stack that runs in `data`.

    Raises:
        UsageError: the directory does not exist.
        InfrastructureError: no stack is running there.
    """
    if not data.is_dir():
        raise UsageError(
            f"--data {data}: no such directory",
            next_step=f"start a stack with `edgeloop up --data {data}`, or name the directory of one that runs",
        )
    state = Layout(data).stack_state()
    if state is None:
        raise InfrastructureError(
            f"no stack is running in {data.absolute()}",
            next_step=f"start it with `edgeloop up --data {data}`, or name a bus with --nats-url",
        )
    return state


def bus_url(nats_url: str | None, data: Path) -> str:
    """Return the bus that a command talks to: the one named, else that of the stack running in `data`."""
    return nats_url or running_stack(data).nats_url


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read, replacing it in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise


def write_json(path: Path, value: object) -> None:
    """Write a JSON file in one step."""
    write_private(path, json.dumps(value, indent=2) + "\n")
