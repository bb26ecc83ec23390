"""What a supervisor that was killed leaves behind."""

import os
import signal
from typing import Final

import structlog

from headrace_local.layout import StackLayout
from headrace_local.process import end_processes, marked_processes
from headrace_local.servers.seaweedfs import remove_sockets
from headrace_local.state import StackState, load

#: Nobody serves clients any more, so that there is little to finish.
_GRACE_SECONDS: Final = 5.0

_log = structlog.get_logger()


def end_leftovers(layout: StackLayout) -> int:
    """End every process of the stack that still runs; its lock must be held.

    Processes are found by the mark in their environment, which also finds those whose start was
    not written down any more, and by pid and start time in the state file. Leaders of a session
    are asked to stop, the way their program wants it; their children follow or are killed.

    Returns:
        How many there were.
    """
    state = load(layout.state)
    recorded = _recorded(state)
    processes = {process.pid: process for process in marked_processes(layout.directory)}
    for record in state.processes if state else []:
        process = record.identity.find() if record.identity else None
        if process is not None:
            processes[process.pid] = process
    leaders = {pid: recorded.get(pid, signal.SIGTERM) for pid in processes if _leads_session(pid)}
    if processes:
        _log.warning("local.leftovers_found", pids=sorted(processes))
        end_processes(processes.values(), signals=leaders, grace=_GRACE_SECONDS)
    if state is not None:
        remove_sockets(state.ports)
    return len(processes)


def _recorded(state: StackState | None) -> dict[int, int]:
    """Return the signal that stops each process that the state knows, by pid."""
    records = state.processes if state else []
    return {record.identity.pid: record.stop_signal for record in records if record.identity}


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False
