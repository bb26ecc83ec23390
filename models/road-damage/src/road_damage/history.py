"""What a run tells while it goes on: JSON lines, in a file and on the screen."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from road_damage.losses import Losses

FILE_NAME = "history.jsonl"
Log = Callable[[dict[str, Any]], None]


class Meter:
    """Mean losses and speed since the last summary."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._losses: list[list[float]] = []
        self._mark = self._started = time.monotonic()

    def restart(self) -> None:
        """Leave out the time until now, such as that of a validation."""
        self._started += time.monotonic() - self._mark
        self._mark = time.monotonic()

    def add(self, losses: Losses) -> None:
        """Note the losses of a step."""
        self._losses.append([float(part) for part in losses])

    def elapsed(self) -> float:
        """Seconds since this was last asked."""
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        return seconds

    def summary(self, step: int, seconds: float) -> dict[str, Any]:
        """One line of the history; begins anew."""
        total, classes, boxes, spread = np.mean(self._losses, axis=0).round(4).tolist()
        speed = len(self._losses) * self._batch / (time.monotonic() - self._started)
        self._losses, self._started = [], time.monotonic()
        return {
            "kind": "train",
            "step": step,
            "seconds": round(seconds, 1),
            "loss": total,
            "classes": classes,
            "boxes": boxes,
            "distribution": spread,
            "images_per_second": round(speed, 2),
        }


def log_to(directory: Path, step: int) -> Log:
    """A log to the run's history and the screen; lines after `step` were never reached: dropped."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))

    def log(entry: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        sys.stdout.write(json.dumps(entry) + "\n")
        sys.stdout.flush()

    return log
