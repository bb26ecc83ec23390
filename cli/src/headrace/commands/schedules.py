"""`schedules`: what is put on its way at which time."""

import time
from typing import Annotated, Any, Final

import typer

from headrace import completion
from headrace.client import Client
from headrace.commands import schedule_changes
from headrace.failures import CommandError, ExitCode
from headrace.letter_options import set_only
from headrace.output import (
    JsonOption,
    console,
    print_fields,
    print_heading,
    print_json,
    print_table,
)
from headrace.schedule_calls import call, dispatcher_client, path_of
from headrace.schedule_output import (
    firing_text,
    moment_text,
    next_text,
    print_done,
    print_firings,
    print_schedule,
    span_text,
    tell_more,
    trigger_text,
)

app = typer.Typer(
    help="Schedules: jobs and house-keeping at a time, again and again, or by cron.",
    no_args_is_help=True,
)

_OPEN: Final = frozenset({"pending", "sent", "running"})
_POLL_SECONDS: Final = 0.5

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completion.schedule_names)
]
PageOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="Of one page.")]
CursorOption = Annotated[str | None, typer.Option(help="Of the next page.")]


@app.command("list")
def list_schedules(
    target: Annotated[str | None, typer.Option("--target", "-t", help="Of this target.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Whose names begin so.")] = None,
    calendar: Annotated[str | None, typer.Option(help="That name this calendar.")] = None,
    *,
    paused: Annotated[bool | None, typer.Option(help="That are paused, or are not.")] = None,
    built_in: Annotated[bool | None, typer.Option(help="House-keeping, or not.")] = None,
    limit: PageOption = 50,
    cursor: CursorOption = None,
    as_json: JsonOption = False,
) -> None:
    """List schedules by name, each with its next firing on the clock of its zone."""
    params = {
        "target": target,
        "prefix": prefix,
        "calendar": calendar,
        "paused": paused,
        "built_in": built_in,
        "limit": limit,
        "cursor": cursor,
    }
    page = call("GET", "/schedules", params=set_only(params))
    if as_json:
        print_json(page)
        return
    print_table(
        ("NAME", "NEXT", "TRIGGER", "ZONE", "TARGET", "LAST"),
        [
            (
                *(found["name"], next_text(found), trigger_text(found["trigger"])),
                *(found["time_zone"], found["target_key"], moment_text(found["last_fire_at"])),
            )
            for found in page["schedules"]
        ],
    )
    tell_more(page)


@app.command("show")
def show(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Show a schedule: what it says, when it fires next, what came of its last firings."""
    schedule = call("GET", path_of("schedules", name))
    if as_json:
        print_json(schedule)
        return
    print_schedule(schedule)
    if schedule["last_firings"]:
        print_heading("Last")
        print_firings(schedule["last_firings"])


app.command("create")(schedule_changes.create)
app.command("change")(schedule_changes.change)
app.command("preview")(schedule_changes.preview)


@app.command("pause")
def pause(
    name: NameArgument,
    reason: Annotated[str | None, typer.Option(help="For whoever wonders why.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Fire a schedule no more until it is resumed. What it has begun goes on."""
    paused = call("POST", f"{path_of('schedules', name)}/pause", json=set_only({"reason": reason}))
    print_done(paused, "is paused", as_json=as_json)


@app.command("resume")
def resume(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Go on with a schedule from now. What would have come meanwhile is not made up for."""
    print_done(call("POST", f"{path_of('schedules', name)}/resume"), "goes on", as_json=as_json)


@app.command("run")
def run(
    name: NameArgument,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Until it has ended; exit 1 unless it succeeded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fire a schedule now, also a paused one. Exits 1 where the last one still runs."""
    with dispatcher_client() as client:
        firing = client.dispatcher("POST", f"{path_of('schedules', name)}/run")
        while wait and firing["state"] in _OPEN:
            time.sleep(_POLL_SECONDS)
            firing = _again(client, name, firing)
    if as_json:
        print_json(firing)
    else:
        told = firing_text(firing)
        line = f"{name}: firing {firing['id']} is {firing['state']}{': ' if told else ''}{told}"
        console.print(line, highlight=False, markup=False)
    if firing["state"] not in {*_OPEN, "succeeded"}:
        raise typer.Exit(ExitCode.FAILED)


@app.command("delete")
def delete(name: NameArgument) -> None:
    """Remove a schedule with its history. What it has begun goes on."""
    call("DELETE", path_of("schedules", name))
    console.print(f"{name} is removed", highlight=False)


@app.command("history")
def history(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=completion.schedule_names, help="Of all if left out."
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            help="pending, sent, running, succeeded, failed, cancelled or skipped; repeat for "
            "more.",
        ),
    ] = None,
    *,
    limit: PageOption = 20,
    cursor: CursorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a schedule fired, or all of them, newest first, and what came of it."""
    params = set_only({"state": state, "limit": limit, "cursor": cursor})
    path = "/firings" if name is None else f"{path_of('schedules', name)}/firings"
    page = call("GET", path, params=params)
    if as_json:
        print_json(page)
        return
    print_firings(page["firings"], names=name is None)
    tell_more(page)


@app.command("status")
def status(*, as_json: JsonOption = False) -> None:
    """Show who drives the schedules, what is late, and by how much firings drift."""
    state = call("GET", "/scheduler")
    if as_json:
        print_json(state)
        return
    leader, backlog, drift = state["leader"], state["backlog"], state["drift"]
    if leader is None:
        console.print("No process has led yet.")
    else:
        print_fields(
            [
                ("leader", leader["holder"]),
                ("epoch", leader["epoch"]),
                ("since", moment_text(leader["elected_at"])),
                ("last sign of life", f"{leader['heartbeat_age_seconds']:.1f} s ago"),
            ]
        )
    print_heading("Backlog")
    print_fields(
        [
            ("schedules that are due", str(backlog["due"])),
            ("firings to be sent", str(backlog["pending"])),
            ("the oldest waits", span_text(round(backlog["pending_oldest_seconds"]))),
            ("sent", str(backlog["sent"])),
            ("running", str(backlog["running"])),
        ]
    )
    if drift["firings"]:
        print_heading("Drift")
        names = ("p50", "p95", "p99", "max")
        print_fields((name, f"{drift[name]:.3f} s") for name in names)


def _again(client: Client, name: str, firing: dict[str, Any]) -> dict[str, Any]:
    """Look a firing up again.

    Raises:
        CommandError: it is gone: its schedule was removed, or has fired very often since.
    """
    page = client.dispatcher("GET", f"{path_of('schedules', name)}/firings", params={"limit": 200})
    for found in page["firings"]:
        if found["id"] == firing["id"]:
            same: dict[str, Any] = found
            return same
    raise CommandError(f"firing {firing['id']} is not among the last 200", ExitCode.NOT_FOUND)
