"""`worker`: look at the gpu-preprocessor, and steer it."""

from typing import Annotated, Any

import typer

from headrace.client import Client
from headrace.connection import PREPROCESSOR_URL, find_connection
from headrace.output import JsonOption, console, print_fields, print_json, print_table

app = typer.Typer(
    help="The gpu-preprocessor: what it does, and how much at a time.", no_args_is_help=True
)


@app.command("status")
def status(*, as_json: JsonOption = False) -> None:
    """Show what each slot does, and how the group of workers and the memory are."""
    shown = _call("GET", "/worker/status")
    if as_json:
        print_json(shown)
        return
    flat = {name: value for name, value in shown.items() if not isinstance(value, dict | list)}
    print_fields(flat.items())
    for name, value in shown.items():
        if isinstance(value, dict):
            print_fields((f"{name}.{key}", item) for key, item in value.items())
        elif isinstance(value, list) and value:
            _print_rows(name, value)


@app.command("pause")
def pause(*, as_json: JsonOption = False) -> None:
    """Take no new entries; what runs finishes."""
    _show(_call("POST", "/control/pause"), "Paused.", as_json=as_json)


@app.command("resume")
def resume(*, as_json: JsonOption = False) -> None:
    """Take entries again."""
    _show(_call("POST", "/control/resume"), "Resumed.", as_json=as_json)


@app.command("concurrency")
def concurrency(
    jobs: Annotated[int, typer.Argument(metavar="N", min=1)], *, as_json: JsonOption = False
) -> None:
    """Change how many jobs run at a time. What runs beyond a lower number finishes."""
    answer = _call("POST", "/control/concurrency", params={"n": jobs})
    text = f"Up to {answer['concurrency']} jobs at a time, {answer['before']} before."
    _show(answer, text, as_json=as_json)


def _call(method: str, path: str, **arguments: Any) -> Any:
    with Client(find_connection(needs=(PREPROCESSOR_URL,))) as client:
        return client.preprocessor(method, path, **arguments)


def _show(answer: Any, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        console.print(text, highlight=False)


def _print_rows(name: str, rows: list[Any]) -> None:
    if not all(isinstance(row, dict) for row in rows):
        print_fields([(name, ", ".join(map(str, rows)))])
        return
    console.print()
    columns = list(rows[0])
    heads = [column.replace("_", " ").upper() for column in columns]
    print_table(heads, [[row.get(column) for column in columns] for row in rows])
