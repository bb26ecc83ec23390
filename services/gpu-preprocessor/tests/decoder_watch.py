"""The decoders of this process, which come and go while they are looked at."""

from contextlib import suppress

import psutil


def running_decoders() -> list[psutil.Process]:
    """Return the decoders that this process has started and that run."""
    found = []
    for child in psutil.Process().children():
        # It may end, and be waited for, between two questions.
        with suppress(psutil.NoSuchProcess):
            if not is_dead(child) and "headrace_gpu_preprocessor.decoder" in child.cmdline():
                found.append(child)
    return found


def is_dead(process: psutil.Process) -> bool:
    """Whether it has ended, waited for or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
