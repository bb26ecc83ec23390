"""`audit`: who did what to the installation."""

import json
from typing import Annotated, Any

import typer

from headrace.client import Client
from headrace.connection import DISPATCHER_URL, find_connection
from headrace.output import JsonOption, console, print_json, print_table


def audit(
    target: Annotated[
        str | None, typer.Option(help="Only what was done to it: rollout, or a queue's name.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Of the next page.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, newest first."""
    params = {"target": target, "limit": limit, "cursor": cursor}
    given = {name: value for name, value in params.items() if value is not None}
    with Client(find_connection(needs=(DISPATCHER_URL,))) as client:
        page = client.dispatcher("GET", "/audit", params=given)
    if as_json:
        print_json(page)
        return
    print_table(
        ("AT", "BY", "DID", "TO", "DETAILS"),
        [_row(entry) for entry in page["entries"]],
    )
    if page["next_cursor"]:
        console.print(f"More: --cursor {page['next_cursor']}", highlight=False)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    details = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in entry["details"].items()
        if value is not None
    )
    moment = entry["at"][:19].replace("T", " ")
    return (moment, entry["actor"], entry["action"], entry["target"], details)
