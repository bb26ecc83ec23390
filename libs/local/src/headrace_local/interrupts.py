"""Ctrl-C and SIGTERM, the polite and the impatient."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Turn the first SIGINT or SIGTERM into a stop, and the second into a quick one."""
    stop, hurry = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        (hurry if stop.is_set() else stop).set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop, hurry
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
