"""Programs that mean harm, in every sandbox that this machine has. Each is bounded, should it not be contained."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.artifact_builder.sandbox.engines import Engine, Program
from services.artifact_builder.sandbox.processes import Ending
from tests.integration.artifact_builder.hostile import TIGHT, Place, and_the_next_is_well, left_running
from tests.integration.artifact_builder.sandboxes import require, sandbox_of
from tests.support import eventually


async def test_an_honest_program_reads_its_checkout_and_writes_its_output(place: Place) -> None:
    ended = await place.run("open(os.environ['OUT'] + '/copy', 'w').write(open('data.csv').read()); print(os.getcwd())")
    assert ended.succeeded, ended
    assert (place.root / "output" / "copy").read_text() == "1,2,3"
    assert ended.last_lines == (str(place.root / "checkout"),)


async def test_what_one_step_wrote_the_next_can_read_and_only_read(strong: Place) -> None:
    await strong.run("path = os.environ['OUT'] + '/model'; open(path, 'w').write('weights'); os.chmod(path, 0o600)")
    model = str(strong.root / "output" / "model")
    program = Program(
        (sys.executable, "-c", f"print(open({model!r}).read()); open({model!r}, 'w')"),
        strong.root / "checkout",
        {"PATH": os.environ["PATH"]},
        TIGHT,
        readable=(strong.root / "checkout", strong.root / "output"),
        writable=(strong.root / "home",),
    )
    ended = await strong.sandbox.run(program)
    assert ended.exit_code == 1
    assert "weights" in ended.last_lines
    assert any("Read-only file system" in line for line in ended.last_lines)


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.ssh/id_ed25519", "/etc/ssh/ssh_host_rsa_key", "/etc/sudoers"])
async def test_secrets_of_the_system_cannot_be_read(path: str, strong: Place) -> None:
    ended = await strong.run(f"print(open({path!r}).read())")
    assert ended.exit_code == 1
    assert ended.last_lines[-1].startswith(("FileNotFoundError", "PermissionError")), ended


async def test_the_container_engine_is_out_of_reach(strong: Place) -> None:
    code = "print([os.path.lexists(path) for path in ('/run/docker.sock', '/var/run/docker.sock', '/run/containerd')])"
    assert (await strong.run(code)).last_lines == ("[False, False, False]",)


async def test_the_signing_key_is_not_there_even_for_who_knows_its_path(strong: Place) -> None:
    ended = await strong.run(f"print(os.path.lexists({str(strong.key)!r}), sorted(os.listdir({str(strong.root)!r})))")
    assert ended.last_lines == ("False ['checkout', 'home', 'output']",)


async def test_a_key_inside_a_folder_that_is_shown_is_covered(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    (tools / "data").mkdir(parents=True)
    (tools / "data" / "state.db").write_text("the secret")
    (tools / "signing.pem").write_text("the secret")
    (tools / "library.py").write_text("shown")
    (tmp_path / "work").mkdir()
    sandbox = sandbox_of(Engine.BUBBLEWRAP, tmp_path / "scratch", (tools / "data", tools / "signing.pem"))
    place = Place(tmp_path / "work", replace(sandbox, readable=(tools,)))  # type: ignore[type-var]
    ended = await place.run(f"""
print(open({str(tools)!r} + "/library.py").read())
print(os.listdir({str(tools)!r} + "/data"))
try: print(open({str(tools)!r} + "/signing.pem").read())
except OSError as error: print(error.strerror)
""")
    assert ended.last_lines == ("shown", "[]", "Permission denied")


async def test_other_processes_cannot_be_seen_nor_what_they_were_told(
    strong: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELOOP_WEBHOOK_SECRET", "the secret")
    ended = await strong.run(f"""
pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
print(len(pids) < 6, os.path.exists("/proc/{os.getpid()}/environ"))
for pid in pids:
    for name in ("environ", "root/etc/shadow", "root{strong.key}", "cwd/signing.pem", "mem"):
        try:
            found = open(f"/proc/{{pid}}/{{name}}", "rb").read(100_000)
        except OSError:
            continue
        if b"the secret" in found: print("found", pid, name)
print("end")
""")
    assert ended.last_lines[0].startswith("True"), ended
    assert [line for line in ended.last_lines if line.startswith("found")] == []


async def test_it_is_nobody_with_no_rights(strong: Place) -> None:
    ended = await strong.run("""
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(int(status["CapEff"], 16), int(status["CapPrm"], 16), status["NoNewPrivs"].strip(), status["Seccomp"].strip())
print(os.getuid() != 0 and os.getgid() != 0, os.getgroups() in ([], [os.getgid()]))
try: os.setuid(0)
except OSError as error: print(error.strerror)
""")
    assert ended.last_lines == ("0 0 1 2", "True True", "Operation not permitted")


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_there_is_no_network(strong: Place, listener: int) -> None:
    ended = await strong.run(f"""
for address in (("127.0.0.1", {listener}), ("192.0.2.1", 80), ("169.254.169.254", 80)):
    try: socket.create_connection(address, timeout=3); print("connected", address)
    except OSError as error: print(type(error).__name__, error.strerror)
try: print(socket.getaddrinfo("example.com", 80))
except OSError: print("no names")
with socket.create_server(("127.0.0.1", 0)) as own:
    socket.create_connection(own.getsockname()).close(); print("own loopback works")
print(sorted(name for _, name in socket.if_nameindex() if name not in ("sit0", "ip6tnl0", "tunl0")))
""")
    assert ended.last_lines == (
        "ConnectionRefusedError Connection refused",
        "OSError Network is unreachable",
        "OSError Network is unreachable",
        "no names",
        "own loopback works",
        "['lo']",
    )


@pytest.mark.parametrize(
    "where",
    [
        "os.path.join(os.getcwd(), 'edgeloop.yaml')",
        "os.path.join(os.getcwd(), 'data.csv')",
        "os.path.join(os.path.dirname(os.__file__), 'sitecustomize.py')",
        "os.path.join(sys.prefix, 'pyvenv.cfg')",
        "'/usr/bin/git'",
        "'/etc/passwd'",
        "'/somewhere'",
        "'/dev/somewhere'",
        "'/proc/sys/kernel/core_pattern'",
    ],
)
async def test_nothing_but_its_own_folders_can_be_written(where: str, strong: Place) -> None:
    ended = await strong.run(f"""
path = {where}
try: open(path, "a").write("x"); print("written", path)
except OSError as error: print(error.strerror)
""")
    assert ended.last_lines in (("Read-only file system",), ("Permission denied",)), ended
    assert (strong.root / "checkout" / "data.csv").read_text() == "1,2,3"


async def test_a_program_that_spins_and_ignores_every_signal_is_ended_in_time(place: Place) -> None:
    async with and_the_next_is_well(place):
        begun = time.monotonic()
        ended = await place.run(
            """
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
print("spins")
os.fork()
while True: pass
""",
            replace(TIGHT, wall_s=2),
        )
        assert (ended.ending, ended.last_lines) == (Ending.TIMEOUT, ("spins",)), ended
        assert time.monotonic() - begun < 10


async def test_daemons_do_not_outlive_the_program(place: Place) -> None:
    async with and_the_next_is_well(place):
        ended = await place.run("""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(os.environ["OUT"] + "/daemon", "w").close()
        while True: time.sleep(1)
    os._exit(0)
while not os.path.exists(os.environ["OUT"] + "/daemon"): time.sleep(0.01)
""")
        assert ended.succeeded, ended


async def test_a_step_cannot_end_its_supervisor(strong: Place) -> None:
    ended = await strong.run(
        """
for pid in (1, os.getppid()):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        try: os.kill(pid, number)
        except OSError: pass
time.sleep(60)
""",
        replace(TIGHT, wall_s=2),
    )
    assert ended.ending is Ending.TIMEOUT, ended


async def test_it_makes_no_namespaces_of_its_own(strong: Place) -> None:
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print([libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x40000000)], libc.mount(b"x", b"/tmp", b"tmpfs", 0, b""))
print(libc.ptrace(16, 1, 0, 0))
"""
    assert (await strong.run(code)).last_lines == ("[-1, -1, -1] -1", "-1")


async def test_a_cancelled_caller_leaves_nothing(strong: Place) -> None:
    running = asyncio.ensure_future(strong.run("open(os.environ['OUT'] + '/begun', 'w').close()\ntime.sleep(60)"))
    await eventually((strong.root / "output" / "begun").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually(lambda: not left_running())


async def test_a_killed_builder_leaves_nothing(strong: Place, tmp_path: Path) -> None:
    script = f"""
import asyncio, pathlib
from services.artifact_builder.sandbox.engines import Engine
from tests.integration.artifact_builder.hostile import Place
from tests.integration.artifact_builder.sandboxes import sandbox_of
root = pathlib.Path({str(tmp_path)!r}) / "builder"
root.mkdir()
place = Place(root, sandbox_of(Engine({str(strong.sandbox.engine)!r}), root / "scratch"))
asyncio.run(place.run("open(os.environ['OUT'] + '/begun', 'w').close(); time.sleep(60)"))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as builder:  # noqa: ASYNC220 - a moment
        await eventually((tmp_path / "builder" / "output" / "begun").exists)
        assert left_running()
        builder.kill()
    await eventually(lambda: not left_running())


async def test_a_signal_and_a_missing_program_are_told_as_outside(place: Place) -> None:
    assert (await place.run("os.kill(os.getpid(), signal.SIGSEGV)")).exit_code == -11
    assert (await place.run("sys.exit(3)")).exit_code == 3
    checkout = place.root / "checkout"
    program = Program(("no-such-program",), checkout, {"PATH": "/usr/bin"}, TIGHT, readable=(checkout,))
    ended = await place.sandbox.run(program)
    assert (ended.ending, "no-such-program" in ended.error) == (Ending.NOT_STARTED, True), ended


UNPRIVILEGED = """
import asyncio, ctypes, os, pathlib, sys
from services.artifact_builder.sandbox import bubblewrap
from services.artifact_builder.sandbox.engines import Program
from services.artifact_builder.sandbox.processes import Limits
print(os.geteuid() != 0, repr(bubblewrap.trouble()))
top = pathlib.Path(sys.argv[1])
(top / "output").mkdir(parents=True)
code = "import ctypes, os; print(ctypes.CDLL(None).unshare(1 << 28), os.path.exists('/etc/shadow')); open('made', 'w')"
program = Program((sys.executable, "-c", code), top / "output", {}, Limits(wall_s=20), writable=(top / "output",))
ended = asyncio.run(bubblewrap.Bubblewrap(top / "scratch").run(program))
print(ended.exit_code, *ended.last_lines, (top / "output" / "made").exists())
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Make a folder that every user of the machine can enter."""
    with TemporaryDirectory(prefix="edgeloop-test-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_builder_that_is_not_root_has_the_same_sandbox(public_folder: Path) -> None:
    """Everything in `sandbox` is standard library, so that another user's interpreter of the system can run it."""
    python = shutil.which("python3", path="/usr/bin")
    if os.geteuid() != 0 or python is None or shutil.which("setpriv") is None:
        pytest.skip("needs root, to become another user, with /usr/bin/python3 and setpriv: apt-get install python3")
    root = Path(__file__).parents[3]
    package = Path("services/artifact_builder")
    shutil.copytree(root / package / "sandbox", public_folder / package / "sandbox")
    (public_folder / package / "__init__.py").touch()
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*user, python, "-c", UNPRIVILEGED, str(public_folder / "work")]
    environment = {"PATH": "/usr/bin", "PYTHONPATH": str(public_folder), "PYTHONDONTWRITEBYTECODE": "1"}
    require(Engine.BUBBLEWRAP)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    if "namespace" in done.stdout:
        pytest.skip(f"needs user namespaces for everybody: {done.stdout.strip()}")
    assert done.stdout.splitlines() == ["True ''", "0 -1 False True"], done.stderr
