"""`--at` and `--delay` of uploads: when their jobs are to begin."""

import re
from datetime import datetime
from typing import Annotated, Final

import typer

from headrace.failures import CommandError, ExitCode

AtOption = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="Begin then, '2026-12-24 18:00'; local time without an offset."
    ),
]
DelayOption = Annotated[
    str | None,
    typer.Option("--delay", metavar="DELAY", help="Begin so much later: 90, 30m, 2h, 1d, PT1H30M."),
]

_SHORT: Final = re.compile(r"(\d+)([smhd])", re.ASCII)
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def begin_fields(at: str | None, delay: str | None) -> dict[str, str]:
    """Return when jobs are to begin, as the API takes it; the API checks what a delay says.

    Raises:
        CommandError: both are given, or the time is none.
    """
    if at and delay:
        raise CommandError("--at and --delay do not go together", ExitCode.USAGE)
    if at:
        try:
            return {"run_at": datetime.fromisoformat(at).astimezone().isoformat()}
        except (ValueError, OverflowError):
            raise CommandError(f"--at: {at!r} is no ISO time", ExitCode.USAGE) from None
    if delay:
        short = _SHORT.fullmatch(delay)
        return {"delay": str(int(short[1]) * _UNIT_SECONDS[short[2]]) if short else delay}
    return {}
