"""`calendars`: days on which the schedules that name them do not fire."""

from typing import Annotated, Any, Final

import typer

from headrace import completion
from headrace.failures import CommandError, ExitCode
from headrace.letter_options import set_only
from headrace.output import JsonOption, console, print_fields, print_json, print_table
from headrace.schedule_calls import call, path_of
from headrace.schedule_output import moment_text

app = typer.Typer(
    help="Calendars: days on which the schedules that name them do not fire.",
    no_args_is_help=True,
)

#: Between the first and the last of several days.
_SPAN: Final = ".."
_DAY_HELP: Final = "2026-12-24, 12-25 of every year, or 2026-12-28..2027-01-06; repeat for more."

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completion.calendar_names)
]
DescriptionOption = Annotated[str | None, typer.Option(help="For people.")]


@app.command("list")
def list_calendars(*, as_json: JsonOption = False) -> None:
    """List calendars, and how many schedules name each."""
    found = call("GET", "/calendars")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "SCHEDULES", "DAYS", "DESCRIPTION"),
        [
            (
                *(calendar["name"], calendar["schedules"]),
                *(len(calendar["exceptions"]), calendar["description"]),
            )
            for calendar in found["calendars"]
        ],
    )


@app.command("show")
def show(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Show a calendar."""
    _print(call("GET", path_of("calendars", name)), as_json=as_json)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    day: Annotated[list[str] | None, typer.Option("--day", "-d", help=_DAY_HELP)] = None,
    description: DescriptionOption = None,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also one that there is: it says this from now on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a calendar."""
    body = set_only({"exceptions": _days(day), "description": description})
    if replace:
        made = call("PUT", path_of("calendars", name), json=body)
    else:
        made = call("POST", "/calendars", json=body | {"name": name})
    _print(made, as_json=as_json)


@app.command("change")
def change(
    name: NameArgument,
    add: Annotated[list[str] | None, typer.Option(help=_DAY_HELP)] = None,
    remove: Annotated[list[str] | None, typer.Option(help="As `show` has it.")] = None,
    description: DescriptionOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Add days to a calendar, or remove some. Schedules that name it go by it at once."""
    body = set_only(
        {
            "add": _days(add) or None,
            "remove": _days(remove) or None,
            "description": description,
        }
    )
    if not body:
        raise CommandError("say what to change", ExitCode.USAGE)
    _print(call("PATCH", path_of("calendars", name), json=body), as_json=as_json)


@app.command("delete")
def delete(name: NameArgument) -> None:
    """Remove a calendar that no schedule names."""
    call("DELETE", path_of("calendars", name))
    console.print(f"{name} is removed", highlight=False)


def _days(given: list[str] | None) -> list[Any]:
    return [_day(text) for text in given or ()]


def _day(text: str) -> Any:
    first, separator, last = text.partition(_SPAN)
    return {"from": first, "to": last} if separator else text


def _day_text(day: Any) -> str:
    return day if isinstance(day, str) else f"{day['from']}{_SPAN}{day['to']}"


def _print(calendar: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(calendar)
        return
    print_fields(
        [
            ("name", calendar["name"]),
            ("description", calendar["description"]),
            ("schedules", str(calendar["schedules"])),
            ("changed", f"{moment_text(calendar['changed_at'])} by {calendar['changed_by']}"),
            ("days", ", ".join(map(_day_text, calendar["exceptions"]))),
        ]
    )
