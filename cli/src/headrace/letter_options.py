"""Options of the `dead` commands, and which letters they mean."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from headrace.failures import CommandError, ExitCode

_AGE: Final = re.compile(r"(\d+)([smhd])")
_AGE_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These letters.")]
SourceOption = Annotated[
    str | None, typer.Option(help="dramatiq, sqs, stream, reports or webhook.")
]
QueueOption = Annotated[str | None, typer.Option(help="Where it was to be worked off.")]
CodeOption = Annotated[str | None, typer.Option(help="Why it died, the code.")]
FingerprintOption = Annotated[str | None, typer.Option(help="Cause, as `dead groups` shows it.")]
JobOption = Annotated[str | None, typer.Option("--job", help="Id of its job.")]
AfterOption = Annotated[
    str | None,
    typer.Option("--after", help="Died then or later: an ISO time, or an age such as 2h or 3d."),
]
BeforeOption = Annotated[str | None, typer.Option("--before", help="Died before: likewise.")]
TextOption = Annotated[str | None, typer.Option(help="In the reason, the code or an id.")]
StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", help="dead (the default), replaying, replayed or dropped; or any."),
]
AllOption = Annotated[bool, typer.Option("--all", help="All that are dead.")]
LimitOption = Annotated[
    int, typer.Option(min=1, max=100_000, help="So many at most, those that died first.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def letter_filter(
    source: str | None,
    queue: str | None,
    code: str | None,
    fingerprint: str | None,
    job: str | None,
    after: str | None,
    before: str | None,
    text: str | None,
) -> dict[str, Any]:
    """Return what the options say, as the API takes it; empty where they say nothing."""
    return set_only(
        {
            "source": source,
            "queue": queue,
            "code": code,
            "fingerprint": fingerprint,
            "job_id": job,
            "died_after": _moment(after),
            "died_before": _moment(before),
            "text": text,
        }
    )


def letters_wish(ids: list[str] | None, wanted: dict[str, Any], *, every: bool) -> dict[str, Any]:
    """Return which letters are meant, as the API takes it."""
    ways = {"ids": ids or None, "filter": wanted or None, "all": every or None}
    given = set_only(ways)
    if len(given) != 1:
        raise CommandError("name letters, or options that choose them, or --all", ExitCode.USAGE)
    return given


def _moment(text: str | None) -> str | None:
    """Read an ISO time, or an age such as 2h."""
    if text is None:
        return None
    if age := _AGE.fullmatch(text):
        since = timedelta(**{_AGE_UNITS[age[2]]: int(age[1])})
        return (datetime.now(UTC) - since).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        message = f"{text!r} is neither an ISO time nor an age such as 2h"
        raise CommandError(message, ExitCode.USAGE) from None


def set_only(values: dict[str, Any]) -> dict[str, Any]:
    """Return what has a value."""
    return {name: value for name, value in values.items() if value is not None}
