"""What the process pool's tests run in children."""

import os
import signal
import time
from pathlib import Path

from headrace_analysis import AnalysisError


def work(order: tuple[str, float]) -> object:
    kind, number = order
    if kind == "sleep":
        time.sleep(number)
    elif kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "refuse":
        raise AnalysisError("refused", "No", retryable=True)
    elif kind == "raise":
        raise ValueError("a secret")
    elif kind == "memory":
        return len(bytearray(int(number)))
    return os.getpid()


def sleep_long(marker: str) -> None:
    """Tell the process's id, and hear of nothing for a minute."""
    whole = Path(f"{marker}.whole")
    whole.write_text(str(os.getpid()))
    whole.rename(marker)
    time.sleep(60)
