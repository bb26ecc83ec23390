"""The processes of a stack: found by identity and mark, and signalled with their children."""

import signal
from pathlib import Path

import psutil

from headrace_local.process import MARKER_VARIABLE
from headrace_local.state import ProcessRecord


def find(record: ProcessRecord, directory: Path) -> psutil.Process | None:
    """Return the process of a record, if it runs and is of the stack in `directory`."""
    process = record.identity.find() if record.identity else None
    if process is None:
        return None
    try:
        marked = process.environ().get(MARKER_VARIABLE) == str(directory)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return process if marked else None


def signal_all(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal to a process and all that it has started; whether it was there."""
    try:
        everybody = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for each in everybody:
        try:
            each.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    return True
