"""Options of the `schedules` commands, and what the API takes for them."""

import json
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from headrace import completion
from headrace.failures import CommandError, ExitCode
from headrace.letter_options import set_only

_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([wdhms])")

CronOption = Annotated[
    str | None,
    typer.Option(help="'0 3 * * *': five fields, or six with seconds first, or @daily."),
]
EveryOption = Annotated[
    str | None, typer.Option(help="Again and again after so long: 30s, 10m, 1h30m, 1d.")
]
AtOption = Annotated[
    str | None, typer.Option("--at", help="Once: an ISO time, of --zone if it has no offset.")
]
InOption = Annotated[str | None, typer.Option("--in", help="Once, after so long: 2h.")]
ZoneOption = Annotated[
    str | None, typer.Option("--zone", "-z", help="Time zone, Europe/Berlin. UTC if left out.")
]
StartOption = Annotated[str | None, typer.Option(help="Not before: an ISO time.")]
EndOption = Annotated[str | None, typer.Option(help="Not after: an ISO time.")]
JitterOption = Annotated[
    str | None, typer.Option(help="Spread firings over so long after their time: 30s.")
]
CalendarOption = Annotated[
    str | None,
    typer.Option(
        help="Not on the days of this calendar.", autocompletion=completion.calendar_names
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        help="What it puts on its way; see `headrace targets list`.",
        autocompletion=completion.target_names,
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME=VALUE", help="Parameter of the target; repeat for more."
    ),
]
ParamsOption = Annotated[
    str | None, typer.Option("--params", metavar="JSON", help="All parameters, as JSON.")
]
MisfireOption = Annotated[
    str | None,
    typer.Option(help="What becomes of what nobody fired in time: once, all or skip."),
]
GraceOption = Annotated[
    str | None, typer.Option(help="What is later than that was missed: 60s if left out.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="Most that `--misfire all` makes up for.")
]
OverlapOption = Annotated[
    str | None,
    typer.Option(
        help="While what it began last still runs: allow, skip or cancel. A new one that does not "
        "say it has skip, with `--misfire all` allow, which goes with no skip."
    ),
]
DescriptionOption = Annotated[str | None, typer.Option(help="For people.")]


def trigger_of(
    cron: str | None, every: str | None, at: str | None, in_: str | None, zone: str | None
) -> dict[str, Any] | None:
    """Return the trigger that the options mean, as the API takes it; None where they mean none.

    Raises:
        CommandError: they mean two, or one cannot be read.
    """
    given = {"--cron": cron, "--every": every, "--at": at, "--in": in_}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise CommandError(f"say one of {' and '.join(named)}", ExitCode.USAGE)
    if cron is not None:
        return {"type": "cron", "expression": cron}
    if every is not None:
        return {"type": "interval", "seconds": seconds_of("--every", every)}
    if at is not None:
        return {"type": "at", "at": moment_of("--at", at, zone)}
    if in_ is not None:
        return {"type": "delay", "seconds": seconds_of("--in", in_)}
    return None


def said_of(
    *,
    trigger: dict[str, Any] | None,
    zone: str | None = None,
    start: str | None = None,
    end: str | None = None,
    jitter: str | None = None,
    calendar: str | None = None,
    target: str | None = None,
    params: dict[str, Any] | None = None,
    misfire: str | None = None,
    grace: str | None = None,
    limit: int | None = None,
    overlap: str | None = None,
    description: str | None = None,
) -> dict[str, Any]:
    """Return what the options say, as the API takes it.

    Raises:
        CommandError: a time or a duration cannot be read.
    """
    return set_only(
        {
            "trigger": trigger,
            "time_zone": zone,
            "start_at": start and moment_of("--start", start, zone),
            "end_at": end and moment_of("--end", end, zone),
            "jitter_seconds": None if jitter is None else seconds_of("--jitter", jitter),
            "calendar": calendar,
            "target": target,
            "params": params,
            "misfire": misfire,
            "misfire_grace_seconds": None if grace is None else seconds_of("--grace", grace),
            "misfire_limit": limit,
            "overlap": overlap,
            "description": description,
        }
    )


def seconds_of(option: str, text: str) -> float:
    """Read a duration such as 90s, 10m or 1h30m.

    Raises:
        CommandError: it is none.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise CommandError(
            f"{option} takes a duration such as 30s, 10m or 1h30m, not {text!r}", ExitCode.USAGE
        )
    return sum(timedelta(**{_UNITS[unit]: float(number)}).total_seconds() for number, unit in parts)


def moment_of(option: str, text: str, zone: str | None) -> str:
    """Read an ISO time; one without an offset is of `zone`, or of this machine's.

    Raises:
        CommandError: it is none, or there is no such zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"{option} takes an ISO time such as 2026-12-01T08:00, not {text!r}", ExitCode.USAGE
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone_of(zone)) if zone else moment.astimezone()
    return moment.isoformat()


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        CommandError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CommandError(
            f"no time zone {name!r}; one is called Europe/Berlin", ExitCode.USAGE
        ) from None


def params_of(pairs: list[str] | None, whole: str | None) -> dict[str, Any] | None:
    """Return the parameters that the options say; None where they say none.

    Raises:
        CommandError: they cannot be read.
    """
    if pairs is None and whole is None:
        return None
    return _read_params(whole) | dict(_read_param(pair) for pair in pairs or ())


def _read_params(text: str | None) -> dict[str, Any]:
    try:
        params = json.loads(text or "{}")
    except ValueError:
        params = None
    if not isinstance(params, dict):
        raise CommandError(f"--params takes a JSON object, not {text!r}", ExitCode.USAGE)
    return params


def _read_param(pair: str) -> tuple[str, str]:
    name, separator, value = pair.partition("=")
    if not separator or not name:
        raise CommandError(f"--param takes NAME=VALUE, not {pair!r}", ExitCode.USAGE)
    return name, value
