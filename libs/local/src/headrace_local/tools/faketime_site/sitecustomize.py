"""What a Python with libfaketime preloaded has to do otherwise; it finds this by PYTHONPATH.

Python sleeps until a time of the monotonic clock, which libfaketime 0.9.10 answers with EINVAL.
Waiting for nothing takes as long. Children see the true time: they could not load this.
"""

import operator
import os
import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    seconds = seconds if isinstance(seconds, float | int) else operator.index(seconds)
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = _sleep
for _name in ("LD_PRELOAD", "PYTHONPATH"):
    os.environ.pop(_name, None)
