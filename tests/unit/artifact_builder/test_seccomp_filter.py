"""The filter, run by a small interpreter of the kernel's instructions."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.sandbox.seccomp import (
    AARCH64,
    AUDIT_ARCH,
    CLONE,
    DENIED,
    IOCTL,
    SOCKET,
    X86_64,
    filter_for,
)

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
MACHINES = [X86_64, AARCH64]


def decide(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Return what the kernel would do with a system call."""
    given = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, AUDIT_ARCH[machine] if arch is None else arch, 0, *given)
    program = [struct.unpack_from("=HBBI", filter_for(machine), at) for at in range(0, len(filter_for(machine)), 8)]
    at, register = 0, 0
    while True:
        code, yes, no, value = program[at]
        if code == 0x06:
            return int(value)
        if code == 0x20:
            [register] = struct.unpack_from("=I", data, value)
            at += 1
        else:
            holds = {0x15: register == value, 0x35: register >= value, 0x45: bool(register & value)}[code]
            at += 1 + (yes if holds else no)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_of_the_list_is_refused(machine: str) -> None:
    column = MACHINES.index(machine)
    for name, numbers in DENIED.items():
        number = numbers[column]
        assert number is None or decide(machine, number) == ERRNO | errno.EPERM, name


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 600), arguments=st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_every_other_call_is_allowed(machine: str, number: int, arguments: list[int]) -> None:
    column = MACHINES.index(machine)
    special = {CLONE[column], SOCKET[column], IOCTL[column], 435}
    refused = {numbers[column] for numbers in DENIED.values()}
    if number not in special | refused:
        assert decide(machine, number, *arguments) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_processes_and_threads_may_be_started_but_no_namespaces(machine: str) -> None:
    column = MACHINES.index(machine)
    assert decide(machine, CLONE[column], 0x003D0F00) == ALLOW  # a thread, as the C library starts one
    assert decide(machine, CLONE[column], 0x10000000 | 17) == ERRNO | errno.EPERM  # CLONE_NEWUSER
    assert decide(machine, 435) == ERRNO | errno.ENOSYS  # clone3: the C library falls back to clone


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_local_or_internet_ones(machine: str) -> None:
    column = MACHINES.index(machine)
    assert [decide(machine, SOCKET[column], family) for family in (1, 2, 10, 16)] == [ALLOW] * 4
    assert decide(machine, SOCKET[column], 40) == ERRNO | errno.EAFNOSUPPORT  # AF_VSOCK: reaches the hypervisor
    assert decide(machine, SOCKET[column], 17) == ERRNO | errno.EAFNOSUPPORT  # AF_PACKET


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_typed_into_the_terminal(machine: str) -> None:
    column = MACHINES.index(machine)
    assert decide(machine, IOCTL[column], 0, 0x5412) == ERRNO | errno.EPERM
    assert decide(machine, IOCTL[column], 0, 0x5413) == ALLOW  # TIOCGWINSZ


def test_calls_by_another_numbering_end_the_program_or_do_not_exist() -> None:
    assert decide(X86_64, 1, arch=0x40000003) == KILL  # 32-bit
    assert decide(X86_64, 0x40000001) == ERRNO | errno.ENOSYS  # x32


def test_a_processor_that_is_not_known_has_no_filter() -> None:
    assert filter_for("riscv64") == b""
