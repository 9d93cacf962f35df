"""The local stack: what runs, in which order, and what each process is told."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from edgeloop.errors import InfrastructureError
from edgeloop.events import connected
from edgeloop.layout import Layout, StackState, compiler_cache, write_json, write_private
from edgeloop.stack.disk import watch_disk
from edgeloop.stack.fleet import Fleet, gateway_yaml, virtual_yaml
from edgeloop.stack.lock import exclusive
from edgeloop.stack.ports import Ports
from edgeloop.stack.secrets import ensure_signing_key, ensure_webhook_secret
from edgeloop.stack.supervisor import ProcessSpec, Ready, Say, SupervisedProcess
from services.artifact_builder.sandbox.opening import LOCAL_REPOSITORIES

SERVICES: Final = (
    "artifact_builder",
    "data_validator",
    "model_validator",
    "device_lab_scheduler",
    "rollout_controller",
    "drift_monitor",
    "source_webhook",
)
LEAST_FREE_BYTES: Final = 512 * 1024**2
PYTHON: Final = (sys.executable, "-P")
"""Without the current directory on the import path: a user's folder called `services` is not ours."""
OWN_VARIABLES: Final = ("EDGELOOP_WEBHOOK_SECRET", "EDGELOOP_SIGNING_KEY", "EDGELOOP_LAB_SIGNING_KEY")
"""The stack has a secret and a key of its own, and tells each only to the service that needs it."""
NATS: Final = "nats"
VIRTUAL: Final = "virtual"
GATEWAY: Final = "device_gateway"


@dataclass(frozen=True, slots=True)
class StackOptions:
    """How to start a stack."""

    data: Path
    nats_url: str | None = None
    """None: an embedded server."""
    fleet: Fleet | None = None
    asked_ports: dict[str, int] = field(default_factory=dict)
    log_style: str = "json"


class LocalStack:
    """A running stack. Made by `running`."""

    def __init__(self, options: StackOptions, say: Say) -> None:
        self.layout = Layout(options.data.absolute())
        self._options = options
        self._say = say
        self._ports = Ports(self.layout.root / "ports.json", options.asked_ports)
        self._groups: list[list[SupervisedProcess]] = []
        self._http = httpx.AsyncClient(timeout=2, trust_env=False)
        self._nats_url = options.nats_url or ""
        self._secret = ""
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> StackState:
        """Start everything, group after group; return where things are.

        Raises:
            InfrastructureError: something did not become ready.
        """
        require_space(self.layout.root)
        self._ports.require_asked()
        ensure_signing_key(self.layout)
        self._secret = ensure_webhook_secret(self.layout)
        if self._options.nats_url:
            async with connected(self._options.nats_url):
                pass  # better one clear error now than one from every service
        else:
            await self._start_group([self._nats_spec()])
            self._nats_url = self._url_of(NATS)
        fleet = self._options.fleet
        services = [self._service_spec(name) for name in SERVICES]
        # The boards need no bus, so they start beside the services.
        await self._start_group([*services, self._boards_spec(fleet)] if fleet else services)
        if fleet:
            await self._start_group([await self._gateway_spec(fleet)])
        state = StackState(
            pid=os.getpid(),
            nats_url=self._nats_url,
            webhook_url=self._url_of("source_webhook"),
            virtual_url=self._url_of(VIRTUAL) if self._options.fleet else None,
            services={process.spec.name: self._url_of(process.spec.name) for process in self.processes},
        )
        write_json(self.layout.stack_file, state.model_dump())
        self._watching = asyncio.create_task(watch_disk(self.layout.root, self._say), name="watch the disk")
        return state

    async def stop(self) -> None:
        """Stop the groups in the reverse order: whoever needs another goes first, the bus last."""
        self._say("stopping …")
        self.layout.stack_file.unlink(missing_ok=True)
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for group in reversed(self._groups):
            await asyncio.gather(*(process.stop() for process in group))
        await self._http.aclose()

    @property
    def processes(self) -> list[SupervisedProcess]:
        """All processes, in the order of their start."""
        return [process for group in self._groups for process in group]

    async def _start_group(self, specs: Sequence[ProcessSpec]) -> None:
        group = [SupervisedProcess(spec, self._say) for spec in specs]
        self._groups.append(group)
        starting = [asyncio.create_task(process.start()) for process in group]
        try:
            await asyncio.wait(starting, return_when=asyncio.FIRST_EXCEPTION)
            for task in starting:
                if task.done():
                    task.result()
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    def _boards_spec(self, fleet: Fleet) -> ProcessSpec:
        config, state_file = self.layout.virtual_config, self.layout.state_file_of(VIRTUAL)
        port = self._ports.wanted(VIRTUAL)
        write_private(config, virtual_yaml(fleet, self.layout, state_file=state_file, http_port=port))
        spec = self._module_spec(VIRTUAL, "device_gateway.virtual", EDGELOOP_VIRTUAL_CONFIG=str(config))
        return replace(spec, ready=self._written_by(VIRTUAL))

    async def _gateway_spec(self, fleet: Fleet) -> ProcessSpec:
        config = self.layout.gateway_config
        write_private(config, gateway_yaml(fleet, await self._json(f"{self._url_of(VIRTUAL)}/boards")))
        return self._module_spec(GATEWAY, "device_gateway", EDGELOOP_GATEWAY_CONFIG=str(config))

    def _nats_spec(self) -> ProcessSpec:
        state_file = self.layout.state_file_of(NATS)
        state_file.unlink(missing_ok=True)
        port = self._ports.wanted(NATS)

        def command() -> tuple[str, ...]:
            # After a crash: where clients look for it.
            wanted = self._ports.fixed(NATS) if self._nats_url else port
            return (*PYTHON, "-m", "edgeloop.stack.nats_process", str(self.layout.nats), str(wanted), str(state_file))

        return ProcessSpec(NATS, command, lambda: _environment({}), self.layout.log_of(NATS), self._written_by(NATS))

    def _service_spec(self, name: str) -> ProcessSpec:
        extra: dict[str, str] = {}
        if name == "source_webhook":
            extra["EDGELOOP_WEBHOOK_SECRET"] = self._secret
        if name == "artifact_builder":
            extra["EDGELOOP_SIGNING_KEY"] = str(self.layout.signing_key)
            extra["EDGELOOP_COMPILER_CACHE"] = str(compiler_cache())
            extra["EDGELOOP_TRUSTED_REPOSITORIES"] = trusted_repositories()
        if name == "device_lab_scheduler":
            extra["EDGELOOP_LAB_SIGNING_KEY"] = str(self.layout.signing_key)
        return self._module_spec(name, f"services.{name}", **extra)

    def _module_spec(self, name: str, module: str, **extra: str) -> ProcessSpec:
        self.layout.state_file_of(name).unlink(missing_ok=True)

        def env() -> Mapping[str, str]:
            common = {
                "EDGELOOP_NATS_URL": self._nats_url,
                "EDGELOOP_DATA": str(self.layout.root),
                "EDGELOOP_HTTP_PORT": str(self._ports.wanted(name)),
                "EDGELOOP_VERIFY_KEY": str(self.layout.verify_key),
                "EDGELOOP_LOG_STYLE": self._options.log_style,
            }
            return _environment(common | extra)

        command = (*PYTHON, "-m", module)
        return ProcessSpec(name, lambda: command, env, self.layout.log_of(name), self._answers(name))

    def _written_by(self, name: str) -> Ready:
        async def ready(pid: int) -> bool:
            state = self.layout.service_state(name)
            if state is None or state.pid != pid:
                return False
            self._ports.remember(name, urlsplit(state.http).port or 0)
            return True

        return ready

    def _answers(self, name: str) -> Ready:
        written = self._written_by(name)

        async def ready(pid: int) -> bool:
            if not await written(pid):
                return False
            try:
                return (await self._http.get(f"{self._url_of(name)}/readyz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        return ready

    def _url_of(self, name: str) -> str:
        state = self.layout.service_state(name)
        if state is None:
            raise InfrastructureError(
                f"{name} has not said where it listens", next_step=f"less {self.layout.log_of(name)}"
            )
        return state.http

    async def _json(self, url: str) -> object:
        try:
            response = await self._http.get(url)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise InfrastructureError(f"GET {url}: {error}", next_step=f"less {self.layout.log_of(VIRTUAL)}") from error
        return response.json()


@asynccontextmanager
async def running(options: StackOptions, say: Say) -> AsyncIterator[tuple[LocalStack, StackState]]:
    """Start a stack and stop it when the block ends, whatever ended it.

    Raises:
        InfrastructureError: the directory is in use or full, a port is taken, or a process did not become ready.
    """
    try:
        options.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(
            f"--data {options.data}: {error.strerror}", next_step="name a directory that can be written"
        ) from error
    with exclusive(Layout(options.data).lock_file):
        stack = LocalStack(options, say)
        try:
            yield stack, await stack.start()
        finally:
            await asyncio.shield(stack.stop())


def trusted_repositories() -> str:
    """Return whose code may do without a sandbox where none works: repositories of this user on this machine's disk.

    Who pushes there has an account of this user already, and whoever may call the webhook cannot name another's folder.
    """
    return os.environ.get("EDGELOOP_TRUSTED_REPOSITORIES") or json.dumps(LOCAL_REPOSITORIES)


def require_space(root: Path) -> None:
    """Refuse to start on a disk that is about to be full.

    Raises:
        InfrastructureError: with what is free and what is needed.
    """
    free_bytes = shutil.disk_usage(root).free
    if free_bytes < LEAST_FREE_BYTES:
        raise InfrastructureError(
            f"{root}: {free_bytes // 1024**2} MiB are free; a stack needs {LEAST_FREE_BYTES // 1024**2} MiB",
            next_step="free some space, or put --data on another disk",
        )


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return our environment, so that settings reach the services, without what only one of them may know."""
    kept = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(changes)
