"""How Grafana writes numbers, for the units that our dashboards have."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

_THOUSANDS: Final = ("", " K", " Mil", " Bil")
_BYTES: Final = (" B", " KiB", " MiB", " GiB", " TiB")
_TIMES: Final = ((86_400.0, " days"), (3_600.0, " hours"), (60.0, " mins"), (1.0, " s"))


def written(value: float, unit: str) -> str:
    """Return a value as a panel of that unit shows it.

    Raises:
        KeyError: no panel had that unit when this was written.
    """
    return _WRITERS[unit](value)


def _digits(value: float) -> str:
    """Return three digits that count."""
    return f"{value:.3g}" if abs(value) < 1_000 else f"{value:.0f}"


def _scaled(value: float, base: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if abs(value) < base:
            return f"{_digits(value)}{unit}"
        value /= base
    return f"{_digits(value)}{units[-1]}"


def _seconds(value: float) -> str:
    for size, unit in _TIMES:
        if abs(value) >= size:
            return f"{_digits(value / size)}{unit}"
    return f"{_digits(value * 1_000)} ms" if value else "0 s"


_WRITERS: Final[Mapping[str, Callable[[float], str]]] = {
    "short": lambda value: _scaled(value, 1_000, _THOUSANDS),
    "s": _seconds,
    "bytes": lambda value: _scaled(value, 1_024, _BYTES),
    "Bps": lambda value: f"{_scaled(value, 1_000, (' B', ' kB', ' MB', ' GB'))}/s",
    "ops": lambda value: f"{_scaled(value, 1_000, _THOUSANDS)} ops/s",
    "reqps": lambda value: f"{_scaled(value, 1_000, _THOUSANDS)} req/s",
    "percentunit": lambda value: f"{_digits(100 * value)}%",
    "bool_yes_no": lambda value: "Yes" if value else "No",
}
