"""Ports: the ones of the start before if they are free, else others, spread by directory."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final

from headrace_local.errors import LocalStackError

LOOPBACK: Final = "127.0.0.1"

#: Below Linux's ephemeral range (from 32768), so that no outgoing connection takes a port
#: between the look and the start; and low enough for a companion 10,000 higher.
_CANDIDATES: Final = range(11_000, 22_000)

#: Above Linux's ephemeral range (to 60999), for the same reason; stacks do not take them.
_RESERVABLE: Final = range(61_000, 65_536)

#: A locked file for each port that a process has claimed. Each user has a folder of its own:
#: nobody may lock another's files.
_CLAIMS: Final = Path(tempfile.gettempdir()) / f"headrace-ports-{os.getuid()}"

#: The descriptors that hold the claims of this process, which end with it; None where nothing
#: could be locked.
_claims: dict[int, int | None] = {}

#: Offsets that a port needs free besides itself; none for most.
Offsets = Sequence[int]


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a predecessor in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def claim(port: int) -> bool:
    """Take `port` for this process, if it is free and no other has taken it in this way.

    Two stacks, or two tests, that look for ports at the same time would see the same ones free
    until their servers listen, seconds later. A claim ends with the process that made it.
    """
    if port in _claims:
        return is_free(port)
    try:
        _CLAIMS.mkdir(mode=0o700, exist_ok=True)
        held = os.open(_CLAIMS / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a full disk, say: then others have only the look to go by
        if is_free(port):
            _claims[port] = None
        return port in _claims
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return False
    if not is_free(port):
        os.close(held)
        return False
    _claims[port] = held
    return True


def choose_ports(
    wanted: Mapping[str, Offsets],
    *,
    previous: Mapping[str, int],
    directory: Path,
    free: Callable[[int], bool] = claim,
) -> dict[str, int]:
    """Choose a port for each name, and claim it.

    Args:
        wanted: names, each with the offsets of companions that the server opens too.
        previous: the ports of the last start, kept where they are free so that URLs stay.
        directory: the stack's; it decides where the search begins, so that stacks in
            different directories hardly ever want the same port.
        free: tells whether a port can be had.

    Raises:
        LocalStackError: every candidate is taken.
    """
    chosen: dict[str, int] = {}
    used: set[int] = set()
    # Old ports first, so that a new name cannot take one of them.
    for name in sorted(wanted, key=lambda name: name not in previous):
        span = (0, *wanted[name])
        before = [previous[name]] if name in previous else []
        for port in chain(before, _candidates(directory)):
            companions = {port + offset for offset in span}
            if not companions & used and all(free(each) for each in companions):
                chosen[name] = port
                used |= companions
                break
        else:
            raise LocalStackError(f"no free port for {name}")
    return chosen


def reserve_port() -> int:
    """Return a free port that no other caller on this machine gets while this process lives.

    For a process that is told its port and started by hand. A port that the kernel chose
    (0) and that was closed again can be taken by any outgoing connection before the process
    listens on it; one of these only by a program that asks for just this number.

    Raises:
        LocalStackError: every port is taken.
    """
    for port in _RESERVABLE:
        if port not in _claims and claim(port):
            return port
    raise LocalStackError("no free port to reserve")


def _candidates(directory: Path) -> Iterator[int]:
    seed = int.from_bytes(sha256(str(directory).encode()).digest()[:4])
    for step in range(len(_CANDIDATES)):
        yield _CANDIDATES[(seed + step) % len(_CANDIDATES)]
