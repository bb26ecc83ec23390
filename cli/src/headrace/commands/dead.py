"""`dead`: messages that nobody could deal with, of whatever queue, in one place."""

import json
import time
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.client import Client
from headrace.connection import DISPATCHER_URL, find_connection
from headrace.failures import ExitCode
from headrace.letter_options import (
    AfterOption,
    AllOption,
    BeforeOption,
    CodeOption,
    DryRunOption,
    FingerprintOption,
    IdsArgument,
    JobOption,
    LimitOption,
    QueueOption,
    SourceOption,
    StateOption,
    TextOption,
    YesOption,
    letter_filter,
    letters_wish,
    set_only,
)
from headrace.output import (
    JsonOption,
    console,
    print_fields,
    print_heading,
    print_json,
    print_table,
)

app = typer.Typer(
    help="Dead letters: messages that nobody could deal with. Look at them, replay them, or drop "
    "them.",
    no_args_is_help=True,
)

_POLL_SECONDS: Final = 0.5
#: Characters of a reason that fit into a line.
_SHORT_REASON: Final = 60


@app.command("list")
def list_letters(
    source: SourceOption = None,
    queue: QueueOption = None,
    code: CodeOption = None,
    fingerprint: FingerprintOption = None,
    job: JobOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    text: TextOption = None,
    state: StateOption = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Of the next page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List letters, those that died last first."""
    wanted = letter_filter(source, queue, code, fingerprint, job, after, before, text)
    params = {**wanted, "state": _states(state), "limit": limit, "cursor": cursor}
    page = _call("GET", "/dead-letters", params=set_only(params))
    if as_json:
        print_json(page)
        return
    print_table(
        ("ID", "DIED", "QUEUE", "JOB", "CODE", "STATE", "REASON"),
        [
            (
                *(letter["id"], _clock(letter["died_at"]), letter["queue"], letter["job_id"]),
                *(letter["code"], _state(letter), _short(letter["reason"])),
            )
            for letter in page["letters"]
        ],
    )
    if page["next_cursor"]:
        console.print(f"More: --cursor {page['next_cursor']}", highlight=False)


@app.command("groups")
def groups(
    source: SourceOption = None,
    queue: QueueOption = None,
    code: CodeOption = None,
    job: JobOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    text: TextOption = None,
    state: StateOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the causes that letters died of, those with most letters first."""
    wanted = letter_filter(source, queue, code, None, job, after, before, text)
    params = {**wanted, "state": _states(state)}
    found = _call("GET", "/dead-letters/groups", params=set_only(params))
    if as_json:
        print_json(found)
        return
    print_table(
        ("FINGERPRINT", "LETTERS", "JOBS", "FIRST", "LAST", "QUEUES", "CODE", "EXAMPLE"),
        [
            (
                *(group["fingerprint"], group["count"], group["jobs"]),
                *(_clock(group["first_died_at"]), _clock(group["last_died_at"])),
                *(" ".join(group["queues"]), group["example"]["code"]),
                _short(group["example"]["reason"]),
            )
            for group in found["groups"]
        ],
    )


@app.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: JsonOption = False
) -> None:
    """Show a letter: why it died, what it said, and what a replay would do now."""
    letter = _call("GET", f"/dead-letters/{quote(letter_id, safe='')}")
    if as_json:
        print_json(letter)
        return
    payload, plan = letter.pop("payload"), letter.pop("replay")
    print_fields(letter.items())
    print_heading("A replay")
    console.print(f"{plan['action']}: {plan['reason']}", highlight=False, markup=False)
    print_heading("What it said")
    console.print_json(json.dumps(payload), highlight=False)


@app.command("replay")
def replay(
    ids: IdsArgument = None,
    source: SourceOption = None,
    queue: QueueOption = None,
    code: CodeOption = None,
    fingerprint: FingerprintOption = None,
    job: JobOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    text: TextOption = None,
    *,
    limit: LimitOption = 10_000,
    rate: Annotated[
        float | None, typer.Option(min=0.001, max=10_000, help="So many a second.")
    ] = None,
    every: AllOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for its end; it goes on by itself.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay letters: their jobs begin anew, or the message goes back to its queue.

    Exits 1 if one could not be replayed.
    """
    wanted = letter_filter(source, queue, code, fingerprint, job, after, before, text)
    wish = letters_wish(ids, wanted, every=every) | {"limit": limit}
    if rate is not None:
        wish["rate_per_second"] = rate
    with _client() as client:
        if dry_run or not yes:
            preview = client.dispatcher(
                "POST", "/dead-letters/replay", json=wish | {"dry_run": True}
            )
            if dry_run:
                _show_preview(preview, as_json=as_json)
                return
            _confirm(f"Replay {preview['letters']} ({_actions(preview)})?", preview["letters"])
        begun = client.dispatcher("POST", "/dead-letters/replay", json=wish)
        if begun["replay_id"] is None or detach:
            _show_begun(begun, as_json=as_json)
            return
        ended = _follow(client, begun["replay_id"], as_json=as_json)
    if as_json:
        print_json(ended)
    else:
        told = f"Replayed {ended['replayed']} of {ended['letters']}."
        console.print(told, highlight=False)
    if ended["failed"]:
        raise typer.Exit(ExitCode.FAILED)


@app.command("stop")
def stop(
    replay_id: Annotated[str, typer.Argument(metavar="REPLAY")], *, as_json: JsonOption = False
) -> None:
    """Stop a replay: what it has not come to yet is dead as before."""
    answer = _call("POST", f"/dead-letters/replays/{quote(replay_id, safe='')}/stop")
    if as_json:
        print_json(answer)
    else:
        console.print(f"Stopped; {answer['stopped']} letters are dead as before.", highlight=False)


@app.command("drop")
def drop(
    ids: IdsArgument = None,
    source: SourceOption = None,
    queue: QueueOption = None,
    code: CodeOption = None,
    fingerprint: FingerprintOption = None,
    job: JobOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    text: TextOption = None,
    limit: LimitOption = 10_000,
    *,
    every: AllOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give letters up for good. Their jobs stay as they are."""
    wanted = letter_filter(source, queue, code, fingerprint, job, after, before, text)
    wish = letters_wish(ids, wanted, every=every) | {"limit": limit}
    with _client() as client:
        answer = client.dispatcher("POST", "/dead-letters/drop", json=wish | {"dry_run": True})
        if not dry_run:
            if not yes:
                _confirm(f"Drop {answer['letters']} for good?", answer["letters"])
            answer = client.dispatcher("POST", "/dead-letters/drop", json=wish)
    if as_json:
        print_json(answer)
    else:
        done = "Would drop" if dry_run else "Dropped"
        console.print(f"{done} {answer['letters']}.", highlight=False)


def _client() -> Client:
    return Client(find_connection(needs=(DISPATCHER_URL,)))


def _call(method: str, path: str, **arguments: Any) -> Any:
    with _client() as client:
        return client.dispatcher(method, path, **arguments)


def _states(given: list[str] | None) -> list[str] | None:
    if given is None:
        return ["dead"]
    return None if "any" in given else given


def _follow(client: Client, replay_id: str, *, as_json: bool) -> dict[str, Any]:
    """Wait until a replay has ended, with a bar on a terminal."""
    path = f"/dead-letters/replays/{replay_id}"
    columns = (
        TextColumn("[bold]replaying"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        while True:
            seen: dict[str, Any] = client.dispatcher("GET", path)
            done = seen["letters"] - seen["replaying"]
            bar.update(task, total=seen["letters"], completed=done, refresh=True)
            if not seen["replaying"]:
                return seen
            time.sleep(_POLL_SECONDS)


def _confirm(question: str, letters: int) -> None:
    if letters and not typer.confirm(question, err=True):
        raise typer.Exit(ExitCode.REFUSED)


def _show_preview(preview: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(preview)
    else:
        console.print(f"Would replay {preview['letters']}: {_actions(preview)}", highlight=False)


def _show_begun(begun: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(begun)
    elif begun["replay_id"] is None:
        console.print("No such letter is dead.")
    else:
        told = f"Replaying {begun['letters']} until {_clock(begun['last_due_at'])}"
        console.print(f"{told}, as {begun['replay_id']}.", highlight=False)


def _actions(preview: dict[str, Any]) -> str:
    counts = sorted((preview["actions"] or {}).items())
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts) or "nothing"


def _state(letter: dict[str, Any]) -> str:
    return "obsolete" if letter["state"] == "dead" and letter["obsolete"] else letter["state"]


def _clock(moment: str) -> str:
    return moment[:19].replace("T", " ")


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _SHORT_REASON else line[: _SHORT_REASON - 1] + "…"
