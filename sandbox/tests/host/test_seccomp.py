"""The filter as bytes: well-formed, and answering as it says, worked out here instruction by instruction."""

import struct

import pytest

from rewardkit_sandbox import Unavailable
from rewardkit_sandbox.host.seccomp import _NUMBERS, ALLOW, build

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def answer(code, arch, number, arguments=(0,) * 6):
    """Interpret classic BPF as the kernel does."""
    packed = struct.pack("<IIQ6Q", number, arch, 0, *arguments)
    program = [struct.unpack_from("HBBI", code, at) for at in range(0, len(code), 8)]
    at = accumulator = 0
    while True:
        operation, true, false, constant = program[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", packed, constant)
        elif operation == 0x06:
            return constant
        elif operation == 0x05:
            at += constant
        else:
            taken = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}[
                operation
            ]
            at += true if taken else false


@pytest.mark.parametrize("machine", ARCH)
def test_answers(machine):
    """Every system call of the table is refused or decided by its argument, and every other known one is allowed."""
    code, column = build(memory_files=False, machine=machine), list(ARCH).index(machine)
    refused = {row[column]: name for name, row in _NUMBERS.items() if row[column] is not None}
    by_argument = {
        "socket",
        "socketpair",
        "clone",
        "personality",
        "prlimit64",
        "sched_setaffinity",
        "sched_setscheduler",
        "sched_setparam",
        "sched_setattr",
        "setpriority",
        "ioprio_set",
        "ioctl",
        "prctl",
        "fcntl",
        "mmap",
    }
    for number in range(451):
        result = answer(code, ARCH[machine], number)
        if number not in refused:
            assert result == ALLOW, number
        elif refused[number] not in by_argument:
            assert result >> 16 == 5, refused[number]
    assert answer(code, ARCH[machine], 500) == 0x00050000 | 38
    assert answer(code, ARCH[machine], 0x40000000 + 1) == 0x00050000 | 38
    assert answer(code, 0x40000003, 1) == 0x80000000


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [("socket", (1,), True), ("socket", (2,), False), ("socket", (40,), False), ("clone", (0x11,), True), ("clone", (0x10000011,), False),
     ("prlimit64", (0,), True), ("prlimit64", (1,), False), ("ioctl", (0, 0x5401), True), ("ioctl", (0, 0x5412), False), ("mmap", (0, 0, 0, 0x22), True), ("mmap", (0, 0, 0, 0x40022), False), ("memfd_create", (0, 1), True), ("memfd_create", (0, 5), False), ("fcntl", (0, 1033), True), ("fcntl", (0, 1031), False), ("personality", (0xFFFFFFFF,), True), ("personality", (0x40000,), False)],
)  # fmt: skip
def test_arguments(name, arguments, allowed):
    """Sockets are local only, huge pages stay the machine's, no namespaces are made, and nobody else's limits are set."""
    full = (*arguments, *[0] * (6 - len(arguments)))
    assert (
        answer(build(memory_files=True, machine="x86_64"), ARCH["x86_64"], _NUMBERS[name][0], full) == ALLOW
    ) is allowed


def test_unknown_machines():
    """A machine without a table has no sandbox rather than one without a filter."""
    with pytest.raises(Unavailable, match="riscv64"):
        build(memory_files=True, machine="riscv64")
