"""System calls that a program in a sandbox may not make, as a filter that the kernel runs.

A deny list: what mounts, loads, traces, changes the machine, takes memory that no process is seen to have, or has been
the way out of sandboxes before. Everything else is allowed, since training programs use whatever their libraries use.

Sources: seccomp(2), linux/filter.h, linux/audit.h; the default profiles of Docker and systemd-nspawn.
"""

import errno
import struct
from typing import Final

X86_64: Final = "x86_64"
AARCH64: Final = "aarch64"

# name: number on x86_64, number on aarch64 (None: does not exist there)
DENIED: Final[dict[str, tuple[int, int | None]]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
CLONE: Final = (56, 220)
CLONE3: Final = (435, 435)
SOCKET: Final = (41, 198)
IOCTL: Final = (16, 29)

AUDIT_ARCH: Final = {X86_64: 0xC000003E, AARCH64: 0xC00000B7}
X32_BIT: Final = 0x4000_0000
NEW_NAMESPACES: Final = 0x7E02_0080
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and CLONE_NEWTIME."""
FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all of them end at the sandbox's own loopback."""
TERMINAL_INPUT: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into the terminal that the builder was started from."""

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24  # in struct seccomp_data
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000


def filter_for(machine: str) -> bytes:
    """Return the filter for a processor as ``struct sock_filter[]``; empty for one whose numbers are not known here."""
    if machine not in AUDIT_ARCH:
        return b""
    column = (X86_64, AARCH64).index(machine)
    lines = [
        _line(_LOAD, _ARCH_AT),
        _line(_EQUAL, AUDIT_ARCH[machine], yes=1),
        _line(_RETURN, _KILL),  # 32-bit code calls by other numbers
        _line(_LOAD, _NUMBER_AT),
        *_refuse_if(_AT_LEAST, X32_BIT, errno.ENOSYS),
        *_refuse_if(_EQUAL, CLONE3[column], errno.ENOSYS),  # its flags are out of sight; the C library falls back
    ]
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            lines += _refuse_if(_EQUAL, number, errno.EPERM)
    lines += _of_call(CLONE[column], _FIRST_ARGUMENT_AT, _refuse_if(_ANY_BIT, NEW_NAMESPACES, errno.EPERM))
    terminal = [line for request in TERMINAL_INPUT for line in _refuse_if(_EQUAL, request, errno.EPERM)]
    lines += _of_call(IOCTL[column], _SECOND_ARGUMENT_AT, terminal)
    allowed = [line for family in FAMILIES for line in (_line(_EQUAL, family, no=1), _line(_RETURN, _ALLOW))]
    lines += _of_call(SOCKET[column], _FIRST_ARGUMENT_AT, [*allowed, _line(_RETURN, _ERRNO | errno.EAFNOSUPPORT)])
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _line(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return one instruction; `yes` and `no` are how many to skip."""
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse_if(test: int, value: int, error: int) -> list[bytes]:
    return [_line(test, value, no=1), _line(_RETURN, _ERRNO | error)]


def _of_call(number: int, argument_at: int, lines: list[bytes]) -> list[bytes]:
    """Return `lines` for one system call, with an argument's lower half loaded; what they let pass is allowed."""
    return [
        _line(_EQUAL, number, no=len(lines) + 2),
        _line(_LOAD, argument_at),
        *lines,
        _line(_RETURN, _ALLOW),
    ]
