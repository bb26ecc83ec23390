"""`schedules create`, `change` and `preview`: when something is to be fired."""

from typing import Annotated, Final

import typer

from headrace import completion
from headrace.failures import CommandError, ExitCode
from headrace.letter_options import set_only
from headrace.output import JsonOption, console, print_json
from headrace.schedule_calls import call, dispatcher_client, path_of
from headrace.schedule_options import (
    AtOption,
    CalendarOption,
    CronOption,
    DescriptionOption,
    EndOption,
    EveryOption,
    GraceOption,
    InOption,
    JitterOption,
    LimitOption,
    MisfireOption,
    OverlapOption,
    ParamOption,
    ParamsOption,
    StartOption,
    TargetOption,
    ZoneOption,
    moment_of,
    params_of,
    said_of,
    trigger_of,
)
from headrace.schedule_output import print_done, print_next

#: What `change --clear` can take away, as the API calls it.
_CLEARED: Final = {
    "calendar": "calendar",
    "start": "start_at",
    "end": "end_at",
    "description": "description",
}
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completion.schedule_names)
]


def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    cron: CronOption = None,
    every: EveryOption = None,
    at: AtOption = None,
    in_: InOption = None,
    zone: ZoneOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    calendar: CalendarOption = None,
    target: TargetOption = None,
    param: ParamOption = None,
    params: ParamsOption = None,
    misfire: MisfireOption = None,
    grace: GraceOption = None,
    limit: LimitOption = None,
    overlap: OverlapOption = None,
    description: DescriptionOption = None,
    paused: Annotated[bool, typer.Option("--paused", help="Not before it is resumed.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also one that there is: it says this from now on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a schedule, and show when it fires."""
    body = said_of(
        trigger=trigger_of(cron, every, at, in_, zone),
        zone=zone,
        start=start,
        end=end,
        jitter=jitter,
        calendar=calendar,
        target=target,
        params=params_of(param, params),
        misfire=misfire,
        grace=grace,
        limit=limit,
        overlap=overlap,
        description=description,
    )
    if "trigger" not in body:
        raise CommandError("say when: --cron, --every, --at or --in", ExitCode.USAGE)
    if target is None:
        raise CommandError(
            "say what to fire: --target; `headrace targets list` shows them", ExitCode.USAGE
        )
    if paused:
        body["paused"] = True
    if replace:
        made = call("PUT", path_of("schedules", name), json=body)
    else:
        made = call("POST", "/schedules", json=body | {"name": name})
    print_done(made, "is made" if made["version"] == 1 else "is replaced", as_json=as_json)


def change(
    name: NameArgument,
    *,
    cron: CronOption = None,
    every: EveryOption = None,
    at: AtOption = None,
    in_: InOption = None,
    zone: ZoneOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    calendar: CalendarOption = None,
    target: TargetOption = None,
    param: ParamOption = None,
    params: ParamsOption = None,
    misfire: MisfireOption = None,
    grace: GraceOption = None,
    limit: LimitOption = None,
    overlap: OverlapOption = None,
    description: DescriptionOption = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help="Take away: calendar, start, end or description; repeat for more."),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="That was seen: refused if somebody else was quicker.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a schedule from now on. What is not given stays; parameters are given all."""
    with dispatcher_client() as client:
        if zone is None and any(text is not None for text in (at, start, end)):
            # A time without an offset is of the schedule's own zone.
            zone_of_times = client.dispatcher("GET", path_of("schedules", name))["time_zone"]
        else:
            zone_of_times = zone
        body = said_of(
            trigger=trigger_of(cron, every, at, in_, zone_of_times),
            zone=zone_of_times,
            start=start,
            end=end,
            jitter=jitter,
            calendar=calendar,
            target=target,
            params=params_of(param, params),
            misfire=misfire,
            grace=grace,
            limit=limit,
            overlap=overlap,
            description=description,
        )
        if zone is None:
            body.pop("time_zone", None)
        for field in clear or ():
            body[_cleared(field)] = None
        if not body:
            raise CommandError("say what to change", ExitCode.USAGE)
        changed = client.dispatcher(
            "PATCH", path_of("schedules", name), json=body | set_only({"version": version})
        )
    print_done(changed, "is changed", as_json=as_json)


def preview(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            autocompletion=completion.schedule_names,
            help="Of a schedule that there is; else say when.",
        ),
    ] = None,
    *,
    cron: CronOption = None,
    every: EveryOption = None,
    at: AtOption = None,
    in_: InOption = None,
    zone: ZoneOption = None,
    start: StartOption = None,
    end: EndOption = None,
    calendar: CalendarOption = None,
    after: Annotated[str | None, typer.Option(help="Begin there: an ISO time.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="So many.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show when a schedule fires, or one with these options would. Nothing is kept."""
    trigger = trigger_of(cron, every, at, in_, zone)
    if (name is None) == (trigger is None):
        raise CommandError("name a schedule, or say when: --cron, --every ...", ExitCode.USAGE)
    if name is not None:
        told = call("GET", path_of("schedules", name), params={"firings": count})
    else:
        body = said_of(trigger=trigger, zone=zone, start=start, end=end, calendar=calendar)
        if after is not None:
            body["after"] = moment_of("--after", after, zone)
        told = call("POST", "/schedules/preview", json=body | {"count": count})
    if as_json:
        print_json({"time_zone": told["time_zone"], "next_firings": told["next_firings"]})
    elif told["next_firings"]:
        print_next(told["next_firings"])
    else:
        console.print("It fires nothing.")


def _cleared(field: str) -> str:
    if field not in _CLEARED:
        raise CommandError(f"--clear takes {', '.join(_CLEARED)}, not {field!r}", ExitCode.USAGE)
    return _CLEARED[field]
