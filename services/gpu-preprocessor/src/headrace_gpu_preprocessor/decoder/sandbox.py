"""Takes away what a decoder does not need, before it sees a hostile byte.

Resource limits hold everywhere. A seccomp filter (Linux on x86-64 and arm64) refuses network,
files, other processes and programs; it needs no privilege and stacks on a container's own
filter, unlike a network namespace, which the restricted Pod Security Standard does not allow.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF_0000
_REFUSE: Final = 0x0005_0000 | 1  # SECCOMP_RET_ERRNO with EPERM
_KILL: Final = 0x8000_0000
#: Calls of the x32 ABI have this bit; they would pass a filter of plain numbers.
_X32_BIT: Final = 0x4000_0000
#: Offsets in struct seccomp_data.
_NUMBER_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

#: Refused calls by machine, with AUDIT_ARCH: sockets, files by name, programs, other processes,
#: name spaces, and io_uring, which can do any of it unseen.
_REFUSED: Final[dict[str, tuple[int, tuple[int, ...]]]] = {
    "x86_64": (
        0xC000_003E,
        (2, 41, 42, 43, 49, 50, 53, 57, 58, 59, 62, 82, 85, 87, 101, 165, 200, 257, 263, 264, 272,
         288, 308, 310, 311, 316, 319, 321, 322, 425, 434, 437, 438),
    ),
    "aarch64": (
        0xC000_00B7,
        (35, 38, 40, 56, 97, 117, 129, 130, 198, 199, 200, 201, 202, 203, 221, 242, 268, 270, 271,
         276, 279, 280, 281, 425, 434, 437, 438),
    ),
}  # fmt: skip


def limit_resources(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Limit what this process may take, beyond what it has taken already.

    Args:
        memory_bytes: further address space.
        cpu_seconds: processor time in all, a backstop behind the parent's clock.
    """
    taken = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory_bytes, taken + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def die_with_parent() -> None:
    """Be killed when the parent is, however it ends; and hide this memory from its siblings."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def close_off() -> bool:
    """Refuse network, files and programs from now on.

    Returns:
        Whether the filter is in place; not on other systems or machines.

    Raises:
        OSError: the kernel knows the filter and did not take it.
    """
    if sys.platform != "linux" or platform.machine() not in _REFUSED:
        return False
    program = _filter(*_REFUSED[platform.machine()])
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, then a pointer to them.
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(fprog), 0, 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


def _filter(architecture: int, refused: tuple[int, ...]) -> bytes:
    """Return the BPF program: another architecture kills, a refused call fails, the rest passes."""
    count = len(refused)
    lines = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_JUMP_AT_LEAST, count + 1, 0, _X32_BIT),
        *((_JUMP_EQUAL, count - place, 0, number) for place, number in enumerate(refused)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _address_space() -> int:
    """Return the bytes of address space in use now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - starts faster
        return int(file.read().split()[0]) * resource.getpagesize()
