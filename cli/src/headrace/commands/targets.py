"""`targets`: what schedules can fire at, and how much of it may run at once."""

from typing import Annotated, Any

import typer

from headrace import completion
from headrace.output import JsonOption, console, print_json, print_table
from headrace.schedule_calls import call, path_of

app = typer.Typer(
    help="Targets: what schedules can fire at, and how much of it may run at once.",
    no_args_is_help=True,
)

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        autocompletion=completion.target_names,
        help="As `list` shows it, or a single one: camera:NAME, job:ID.",
    ),
]


@app.command("list")
def list_targets(*, as_json: JsonOption = False) -> None:
    """List what schedules can fire at, with the parameters that each takes."""
    found = call("GET", "/targets")
    if as_json:
        print_json(found)
        return
    print_table(
        ("TARGET", "PARAMETERS", "RUNNING", "WAITING", "LIMIT", "WHAT IT DOES"),
        [
            (
                target["name"],
                _params(target["params"]),
                *_figures(target["limit"]),
                target["summary"],
            )
            for target in found["targets"]
        ],
    )


@app.command("limits")
def list_limits(*, as_json: JsonOption = False) -> None:
    """List the limits that are set, and how much runs."""
    found = call("GET", "/targets/limits")
    if as_json:
        print_json(found)
        return
    print_table(
        ("TARGET", "RUNNING", "WAITING", "LIMIT"),
        [(limit["target"], *_figures(limit)) for limit in found["limits"]],
    )


@app.command("limit")
def limit(
    target: TargetArgument,
    most: Annotated[int, typer.Argument(metavar="N", min=1, help="Firings at once.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Let no more firings of a target run at once; others wait. Takes the scope `admin`."""
    answer = call("PUT", f"{path_of('targets', target)}/limit", json={"max_running": most})
    if as_json:
        print_json(answer)
        return
    told = f"{target}: {most} at once; {answer['running']} run, {answer['waiting']} wait"
    console.print(told, highlight=False, markup=False)


@app.command("unlimit")
def unlimit(target: TargetArgument) -> None:
    """Let any number of firings of a target run at once."""
    call("DELETE", f"{path_of('targets', target)}/limit")
    console.print(f"{target}: no limit", highlight=False, markup=False)


def _params(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    names = schema.get("properties", {})
    return " ".join(name if name in required else f"[{name}]" for name in names)


def _figures(limit: dict[str, Any]) -> tuple[object, ...]:
    return (limit["running"], limit["waiting"], limit["max_running"])
