"""Runs one command with limits and leaves nothing of it behind: ``python -I limits.py ORDER REPORT_FD COMMAND...``.

A supervisor of its own, standard library only, because the builder must not be what enforces the limits: when the
builder is killed outright, the kernel tells this process, and it ends the command with everything the command started.
It is the child subreaper, so daemons that a command leaves behind are found and ended as well.

ORDER is the JSON of `processes.Order`; the report is one JSON object written to REPORT_FD.

In a container this is process 1, where no signal of the program reaches it, and what it hears of the builder is its
standard input: that ends when the builder does (`lifeline`). There the kernel counts as well: a program that took more
memory between two looks, or memory that no process is seen to have, is told as one that used too much.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.2
KILL_DEADLINE_S = 5.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
BLOCK_BYTES = 512
"""What st_blocks counts in, whatever the file system."""
STATUS_FD = 200
"""Where `confine.py` says that it begins; high, so that nothing else has it."""
STATUS_BYTES = 4096
WATCH_SHARE = 10
"""Looking at the disk may take one part in so many of the time."""
CONTROL_GROUPS = Path("/sys/fs/cgroup")
HANDLED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Supervise the command line; return 0 when there is a report, whatever it says."""
    order = json.loads(sys.argv[1])
    report_fd = int(sys.argv[2])
    parent = os.getppid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    if order["lifeline"]:  # the program is the same user here: it must not stop this process by tracing it
        _libc.prctl(PR_SET_DUMPABLE, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    if os.getppid() != parent:  # the builder died before the kernel knew that it matters
        return 1
    report = supervise(sys.argv[3:], order)
    os.write(report_fd, json.dumps(report).encode())
    return 0


def supervise(command: list[str], order: dict[str, Any]) -> dict[str, Any]:
    """Run `command` until it ends or breaks a limit, then end whatever is left of it."""
    begun = time.monotonic()
    report: dict[str, Any] = {"ended": "exited", "exit_code": None, "peak_rss_bytes": 0, "disk_bytes": 0, "error": ""}
    status = os.pipe() if order["confined"] else ()
    try:
        child = start(command, order, status)
    except OSError as error:
        return {**report, "ended": "not-started", "error": f"{command[0]}: {error.strerror}", "seconds": 0.0}
    disk = Disk(order["watched"])
    while True:
        received = signal.sigtimedwait(HANDLED, POLL_S)
        if was_told_to_stop(order, received):
            report["ended"] = "stopped"
            break
        report["exit_code"] = reap(child.pid)
        if report["exit_code"] is not None:
            break
        family = descendants(os.getpid())
        report["peak_rss_bytes"] = max(report["peak_rss_bytes"], sum(map(rss_bytes, family)))
        disk.look(family, order)
        if broken := broken_limit(order, report["peak_rss_bytes"], len(family), time.monotonic() - begun, disk):
            report["ended"] = broken
            break
    end_family()
    child.returncode = report["exit_code"] or 0  # reaped above: the destructor need not look for it
    if report["ended"] == "exited":
        disk.count(())
        report["ended"] = "too-deep" if disk.too_deep else "disk" if disk.exceeds(order) else "exited"
    if status and report["ended"] == "exited":
        report["ended"], report["error"] = began(status[0])
    if order["lifeline"] and report["exit_code"] and (used := memory_that_killed(CONTROL_GROUPS)):
        report["ended"], report["peak_rss_bytes"] = "memory", max(used, report["peak_rss_bytes"])
    report["disk_bytes"] = disk.used_bytes
    report["seconds"] = round(time.monotonic() - begun, 3)
    return report


def start(command: list[str], order: dict[str, Any], status: "tuple[int, ...]") -> "subprocess.Popen[bytes]":
    """Start the command, its output where ours goes, or in a file."""
    if status:
        os.dup2(status[1], STATUS_FD)
        os.close(status[1])
    try:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if order["output"] else None
        # This process has one thread, so that code between fork and exec is safe here.
        return subprocess.Popen(  # noqa: S603 - running the given command is the purpose
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is not None else subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(STATUS_FD,) if status else (),
            preexec_fn=lambda: restrict(order),  # noqa: PLW1509
        )
    finally:
        if status:
            os.close(STATUS_FD)


def was_told_to_stop(order: dict[str, Any], received: "signal.struct_siginfo | None") -> bool:
    """Return whether whoever started this wants it to end."""
    if order["lifeline"]:
        return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 1)
    return received is not None and received.si_signo != signal.SIGCHLD


def began(status_fd: int) -> tuple[str, str]:
    """Return how a confined program ended that did end, and what went wrong before it began."""
    os.set_blocking(status_fd, False)
    try:
        said = os.read(status_fd, STATUS_BYTES)
    except BlockingIOError:
        said = b""
    if not said:
        return "not-confined", ""
    return ("not-started", said[1:].decode(errors="replace")) if len(said) > 1 else ("exited", "")


def memory_that_killed(groups: Path) -> int:
    """Return the memory at which the kernel killed something in this container's control group; 0: it killed nothing.

    Source: the kernel's documentation, cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    for folder, events, peak in (
        (groups, "memory.events", "memory.peak"),
        (groups / "memory", "memory.oom_control", "memory.max_usage_in_bytes"),
    ):
        try:
            counts = dict(line.split() for line in (folder / events).read_text().splitlines())
        except OSError:  # the other version of control groups
            continue
        if int(counts.get("oom_kill", 0)):
            return peak_of(folder / peak)
    return 0


def peak_of(path: Path) -> int:
    """Return the most memory that a control group had; at least one byte, where the kernel is too old to keep it."""
    try:
        return int(path.read_text())
    except OSError:
        return 1


def broken_limit(order: dict[str, Any], rss: int, processes: int, seconds: float, disk: "Disk") -> str:
    """Return which limit does not hold, or an empty string."""
    if seconds > order["wall_s"]:
        return "timeout"
    if processes > order["processes"]:  # first: their memory is mostly one and the same, counted many times
        return "processes"
    if rss > order["memory_bytes"]:
        return "memory"
    if disk.too_deep:
        return "too-deep"
    if disk.exceeds(order):
        return "disk"
    return "no-room" if disk.free_bytes < order["free_bytes"] else ""


class Disk:
    """What a program has written below some folders, and to files without a name that it holds open."""

    def __init__(self, folders: list[str]) -> None:
        self.used_bytes = 0
        self.files = 0
        self.free_bytes = sys.maxsize
        self.too_deep = False
        """There are folders at paths that are longer than the kernel follows: what is in them cannot be counted."""
        self._folders = folders
        self._next_look = 0.0

    def look(self, family: list[int], order: dict[str, Any]) -> None:
        """Count, unless that would take too much of the time."""
        begun = time.monotonic()
        if not self._folders or begun < self._next_look:
            return
        self.count(family, at_most=order["disk_files"])
        space = os.statvfs(self._folders[0])
        self.free_bytes = space.f_bavail * space.f_frsize
        self._next_look = begun + (time.monotonic() - begun) * WATCH_SHARE

    def count(self, family: "list[int] | tuple[int, ...]", at_most: int = sys.maxsize) -> None:
        """Count everything; stop where there are too many files to go on."""
        self.used_bytes, self.files = 0, 0
        seen: set[tuple[int, int]] = set()
        waiting = list(self._folders)
        while waiting and self.files <= at_most:
            folder = waiting.pop()
            try:
                open_shut(folder)
                with os.scandir(folder) as entries:
                    waiting += self._add_all(entries, seen)
            except OSError as error:  # gone again, or not ours to read: what is in there counts in the free space
                self.too_deep = self.too_deep or error.errno == errno.ENAMETOOLONG
        for pid in family:
            for state in open_files(pid):
                if state.st_nlink == 0 and stat.S_ISREG(state.st_mode):  # of memfd_create, too: no memory shows them
                    self._add(state, seen)

    def exceeds(self, order: dict[str, Any]) -> bool:
        """Return whether there is more than may be."""
        return bool(self.used_bytes > order["disk_bytes"] or self.files > order["disk_files"])

    def _add_all(self, entries: "Iterator[os.DirEntry[str]]", seen: set[tuple[int, int]]) -> list[str]:
        """Count what is in a folder; return the folders among it."""
        folders = []
        for entry in entries:
            try:
                self._add(entry.stat(follow_symlinks=False), seen)
            except FileNotFoundError:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
        return folders

    def _add(self, state: os.stat_result, seen: set[tuple[int, int]]) -> None:
        if (state.st_dev, state.st_ino) not in seen:
            seen.add((state.st_dev, state.st_ino))
            self.used_bytes += state.st_blocks * BLOCK_BYTES
            self.files += 1


def open_shut(folder: str) -> None:
    """Give the owner back the right to look into a folder: what is in a shut one would not be counted.

    Root needs no right. Anybody else can open nothing but what is theirs, should the program put a link in its place.
    """
    mode = os.lstat(folder).st_mode
    if os.geteuid() != 0 and mode & 0o700 != 0o700:
        Path(folder).chmod(stat.S_IMODE(mode) | 0o700)


def open_files(pid: int) -> "list[os.stat_result]":
    """Return what a process has open, as far as it can be seen."""
    found: list[os.stat_result] = []
    try:
        with os.scandir(f"/proc/{pid}/fd") as links:
            found.extend(link.stat() for link in links)
    except OSError:
        return found
    return found


def restrict(order: dict[str, Any]) -> None:
    """Between fork and exec: die with the supervisor, and take the limits that the kernel enforces."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.nice(order["nice"])
    with contextlib.suppress(OSError):  # when the machine runs out of memory, a step goes before anything of ours
        Path("/proc/self/oom_score_adj").write_text("1000")
    # No limit on address space: TensorFlow reserves far more than it uses. None on the number of processes: the kernel
    # counts all of the user's, on the whole machine. The supervisor watches resident memory and counts descendants.
    cpu_s = int(order["wall_s"] * (os.cpu_count() or 1)) + 1
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, order["file_bytes"]),
        (resource.RLIMIT_NOFILE, order["open_files"]),
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
