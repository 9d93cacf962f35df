"""Runs one command with limits and leaves nothing of it behind: ``python -I limits.py LIMITS REPORT_FD COMMAND...``.

A supervisor of its own, standard library only, because the builder must not be what enforces the limits: when the
builder is killed outright, the kernel tells this process, and it ends the command with everything the command started.
It is the child subreaper, so daemons that a command leaves behind are found and ended as well.

LIMITS is the JSON of `processes.Limits`; the report is one JSON object written to REPORT_FD.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.2
KILL_DEADLINE_S = 5.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
HANDLED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Supervise the command line; return 0 when there is a report, whatever it says."""
    limits = json.loads(sys.argv[1])
    report_fd = int(sys.argv[2])
    parent = os.getppid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    if os.getppid() != parent:  # the builder died before the kernel knew that it matters
        return 1
    report = supervise(sys.argv[3:], limits)
    os.write(report_fd, json.dumps(report).encode())
    return 0


def supervise(command: list[str], limits: dict[str, Any]) -> dict[str, Any]:
    """Run `command` until it ends or breaks a limit, then end whatever is left of it."""
    begun = time.monotonic()
    report: dict[str, Any] = {"ended": "exited", "exit_code": None, "peak_rss_bytes": 0, "error": ""}
    try:
        # This process has one thread, so that code between fork and exec is safe here.
        child = subprocess.Popen(  # noqa: S603 - running the given command is the purpose
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: restrict(limits),  # noqa: PLW1509
        )
    except OSError as error:
        return {**report, "ended": "not-started", "error": f"{command[0]}: {error.strerror}", "seconds": 0.0}
    while True:
        received = signal.sigtimedwait(HANDLED, POLL_S)
        if received is not None and received.si_signo != signal.SIGCHLD:
            report["ended"] = "stopped"
            break
        report["exit_code"] = reap(child.pid)
        if report["exit_code"] is not None:
            break
        family = descendants(os.getpid())
        report["peak_rss_bytes"] = max(report["peak_rss_bytes"], sum(map(rss_bytes, family)))
        if broken := broken_limit(limits, report["peak_rss_bytes"], len(family), time.monotonic() - begun):
            report["ended"] = broken
            break
    end_family()
    child.returncode = report["exit_code"] or 0  # reaped above: the destructor need not look for it
    report["seconds"] = round(time.monotonic() - begun, 3)
    return report


def broken_limit(limits: dict[str, Any], rss: int, processes: int, seconds: float) -> str:
    """Return which limit does not hold, or an empty string."""
    if seconds > limits["wall_s"]:
        return "timeout"
    if rss > limits["memory_bytes"]:
        return "memory"
    return "processes" if processes > limits["processes"] else ""


def restrict(limits: dict[str, Any]) -> None:
    """Between fork and exec: die with the supervisor, and take the limits that the kernel enforces."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.nice(limits["nice"])
    # No limit on address space: TensorFlow reserves far more than it uses. None on the number of processes: the kernel
    # counts all of the user's, on the whole machine. The supervisor watches resident memory and counts descendants.
    cpu_s = int(limits["wall_s"] * (os.cpu_count() or 1)) + 1
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901 - clipped to what is allowed
        resource.setrlimit(which, (value, value))


def reap(wanted: int) -> int | None:
    """Collect every process that ended; return the exit code of `wanted` if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == wanted:
            found = os.waitstatus_to_exitcode(status)


def end_family() -> None:
    """Kill all descendants, again and again, until there is none: they may fork while they are being killed."""
    deadline = time.monotonic() + KILL_DEADLINE_S
    while (family := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap(0)
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Return the process ids below `root`."""
    found, waiting = [], [root]
    while waiting:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found


def children_of(pid: int) -> list[int]:
    """Return the children of a process, zombies included; none when it is gone."""
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    except OSError:
        return children
    return children


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    try:
        return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
