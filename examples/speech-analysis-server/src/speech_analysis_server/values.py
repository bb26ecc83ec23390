"""Shared plain types."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Json = dict[str, Any]


@dataclass(slots=True)
class Warnings:
    """What was not as it should be and did not stop the analysis."""

    items: list[dict[str, str]] = field(default_factory=list)

    def add(self, code: str, message: str) -> None:
        """Note one thing.

        Args:
            code: stable, for programs.
            message: one readable sentence.
        """
        self.items.append({"code": code, "message": message})


def rounded(value: float | np.floating[Any] | None, digits: int = 3) -> float | None:
    """Return a number fit for JSON: finite and of sensible length, else None."""
    if value is None or not np.isfinite(value):
        return None
    return round(float(value), digits)


def rounded_list(values: FloatArray, digits: int = 3) -> list[float | None]:
    """Return an array fit for JSON, with None for what is not finite."""
    return [rounded(value, digits) for value in values.tolist()]
