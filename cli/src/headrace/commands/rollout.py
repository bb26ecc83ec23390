"""`rollout`: move jobs from one transport to the other by per cent, compare, and take it back."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from headrace.client import Client
from headrace.connection import DISPATCHER_URL, find_connection
from headrace.failures import CommandError, ExitCode
from headrace.output import (
    JsonOption,
    console,
    print_fields,
    print_heading,
    print_json,
    print_json_line,
    print_table,
)

app = typer.Typer(
    help="Which share of the jobs goes over SQS and which over HTTP.", no_args_is_help=True
)

_WATCH_SECONDS: Final = 2.0


@app.command("show")
def show(*, as_json: JsonOption = False) -> None:
    """Show how jobs are divided, since when and by whom."""
    _print_state(_call("GET", "/rollout"), as_json=as_json)


@app.command("set")
def set_(
    percent: Annotated[
        float | None,
        typer.Argument(min=0, max=100, help="Share that goes over SQS; the rest goes over HTTP."),
    ] = None,
    shadow: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Share that is sent to the other side too, to compare."),
    ] = None,
    auto_rollback: Annotated[
        bool | None,
        typer.Option(help="Take the jobs back by itself when the new side is sick."),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="When it is sick, failure_margin=0.02 for instance; repeat for more.",
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="For the audit trail.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Divide jobs anew, within two seconds and without a restart. What is not given stays."""
    wanted = {
        "sqs_percent": percent,
        "shadow_percent": shadow,
        "auto_rollback": auto_rollback,
        "reason": reason,
    }
    change = {name: value for name, value in wanted.items() if value is not None}
    if not margin and not change.keys() - {"reason"}:
        raise CommandError("say what to set: a per cent, or an option", ExitCode.USAGE)
    with _client() as client:
        if margin:
            now = client.dispatcher("GET", "/rollout")
            change["policy"] = now["policy"] | dict(_read_margin(text) for text in margin)
            # Margins are set as a whole: nobody else's are to be lost.
            change["version"] = now["version"]
        answer = client.dispatcher("PUT", "/rollout", json=change)
    _print_state(answer, as_json=as_json)


@app.command("rollback")
def rollback(
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "by hand",
    *,
    as_json: JsonOption = False,
) -> None:
    """Take all jobs from the new side, at once. Exits 4 where no side is tried."""
    _print_state(_call("POST", "/rollout/rollback", json={"reason": reason}), as_json=as_json)


@app.command("compare")
def compare(
    minutes: Annotated[int, typer.Option(min=1, help="How far to look back.")] = 15,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show both sides in figures, what became of copies, and what the guard thinks."""
    with _client() as client:
        while True:
            figures = client.dispatcher("GET", "/rollout/comparison", params={"minutes": minutes})
            if as_json and watch:
                print_json_line(figures)
            elif as_json:
                print_json(figures)
            else:
                if watch and console.is_terminal:
                    console.clear()
                _print_comparison(figures)
            if not watch:
                return
            time.sleep(_WATCH_SECONDS)


@app.command("shadow")
def shadow_run(
    job_id: Annotated[str, typer.Argument(metavar="JOB")], *, as_json: JsonOption = False
) -> None:
    """Show the copy of one job, and where its answer differs."""
    run = _call("GET", f"/rollout/shadow/{job_id}")
    if as_json:
        print_json(run)
        return
    differences = run.pop("differences") or {}
    print_fields((name, value) for name, value in run.items() if name != "result")
    listed = differences.get("listed", [])
    if listed:
        console.print()
        print_table(
            ("WHERE", "JOB", "COPY"),
            [(row["pointer"] or "/", row["own"], row["shadow"]) for row in listed],
        )


def _client() -> Client:
    return Client(find_connection(needs=(DISPATCHER_URL,)))


def _call(method: str, path: str, **arguments: Any) -> Any:
    with _client() as client:
        return client.dispatcher(method, path, **arguments)


def _read_margin(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    try:
        if separator:
            return name.strip().replace("-", "_"), json.loads(value)
    except ValueError:
        pass
    raise CommandError(f"--margin takes NAME=NUMBER, not {text!r}", ExitCode.USAGE)


def _print_state(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    environment = state["source"] == "environment"
    print_fields(
        [
            ("over SQS", f"{state['sqs_percent']:g} %"),
            ("over HTTP", f"{100 - state['sqs_percent']:g} %"),
            ("to both", f"{state['shadow_percent']:g} %" if state["shadow_percent"] else None),
            ("set by", "the environment" if environment else state["changed_by"]),
            ("since", _moment(state["changed_at"])),
            ("reason", state["reason"]),
            ("tried", state["new_side"]),
            ("rolled back", state["rolled_back"]),
            ("guard", "rolls back by itself" if state["auto_rollback"] else "off"),
            ("configured", ", ".join(state["transports"])),
            ("version", state["version"] or None),
        ]
    )


def _print_comparison(figures: dict[str, Any]) -> None:
    sqs, http = figures["sqs"], figures["http"]
    print_table(
        ("", "SQS", "HTTP"),
        [(name, read(sqs), read(http)) for name, read in _ROWS.items()],
    )
    shadow = figures["shadow"]
    if shadow["sent"] or shadow["not_sent"]:
        print_heading("Copies")
        shown = {**shadow, "last_different": " ".join(shadow["last_different"])}
        print_fields((name.replace("_", " "), value) for name, value in shown.items() if value)
    verdict = figures["verdict"]
    if verdict is None:
        return
    print_heading("SICK: " + verdict["reason"] if verdict["sick"] else "The guard")
    print_table(
        ("CHECK", "FINDING", "NEW", "OLD", "SAMPLES", "MARGIN"),
        [
            (
                *(check["name"], check["finding"]),
                *(_plain(check[side], check["name"]) for side in ("new", "old")),
                *(check["samples"], _plain(check["margin"], "ratio")),
            )
            for check in verdict["checks"]
        ],
    )


def _plain(value: float | None, name: str) -> str:
    if value is None:
        return ""
    if name == "latency":
        return f"{value:.2f} s"
    return f"x {value:g}" if name == "ratio" and value > 1 else f"{value:.1%}"


def _rate(side: dict[str, Any]) -> str:
    if side["success_rate"] is None:
        return ""
    low, high = side["success_rate_low"], side["success_rate_high"]
    return f"{side['success_rate']:.1%} ({low:.1%} to {high:.1%})"


def _latency(side: dict[str, Any]) -> str:
    values = [side[f"latency_{name}_seconds"] for name in ("p50", "p95", "p99")]
    return "" if values[0] is None else " / ".join(f"{value:.2f}" for value in values) + " s"


def _oldest(side: dict[str, Any]) -> str:
    seconds = side["oldest_unanswered_seconds"]
    return "" if seconds is None else f"{seconds:.0f} s"


_ROWS: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "jobs sent": lambda side: side["sent"],
    "completed": lambda side: side["completed"],
    "failed": lambda side: side["failed"],
    "success rate": _rate,
    "attempts taken": lambda side: side["attempts_taken"],
    "attempts refused": lambda side: side["attempts_refused"],
    "p50 / p95 / p99": _latency,
    "unanswered": lambda side: side["unanswered"],
    "overdue": lambda side: side["overdue"],
    "oldest unanswered": _oldest,
    "waiting for the side": lambda side: side["waiting_for_dependency"],
}


def _moment(text: str | None) -> str | None:
    return text and datetime.fromisoformat(text).astimezone().isoformat(" ", "seconds")
