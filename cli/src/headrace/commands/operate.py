"""`cancel`, `retry`, `queues`, `pause`, `resume`: what operators do with jobs and queues."""

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

import typer

from headrace import completion
from headrace.client import Client, job_path
from headrace.connection import DISPATCHER_URL, find_connection
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, console, print_fields, print_json, print_table

JobArguments = Annotated[
    list[str], typer.Argument(metavar="JOB...", autocompletion=completion.job_ids)
]


def cancel(job_ids: JobArguments, *, as_json: JsonOption = False) -> None:
    """Cancel jobs, wherever they are; who works on them hears of it and stops."""
    with Client() as client:
        _each(job_ids, lambda path: client.ingest("DELETE", f"{path}/cancel"), as_json=as_json)


def retry(
    job_ids: JobArguments,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also completed ones, whose result stays till the next.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Begin jobs anew, from whatever status but uploading; earlier runs do not count any more.

    One that is scheduled is queued now.
    """
    params = {"force": "true"} if force else {}
    with Client() as client:
        _each(
            job_ids,
            lambda path: client.ingest("POST", f"{path}/retry", params=params),
            as_json=as_json,
        )


def _each(job_ids: list[str], call: Callable[[str], Any], *, as_json: bool) -> None:
    """Do it to one after the other; what is refused is named, and stops nobody else."""
    answers: list[dict[str, Any]] = []
    refusals: list[CommandError] = []
    for job_id in job_ids:
        try:
            answer = call(job_path(job_id))
        except CommandError as error:
            text = str(error) if len(job_ids) == 1 else f"{job_id}: {error}"
            refusals.append(CommandError(text, error.code))
            continue
        answers.append(answer)
        if not as_json:
            run = f", run {answer['run']}" if "run" in answer else ""
            console.print(f"{answer['message']}: {job_id}{run}", highlight=False)
    if as_json and answers:
        print_json(answers[0] if len(job_ids) == 1 else answers)
    if refusals:
        raise CommandError("\n".join(map(str, refusals)), refusals[0].code)


def queues(*, as_json: JsonOption = False) -> None:
    """Show the lanes and the stream of camera jobs, who paused them, and the SQS queues behind."""
    with Client() as client:
        lanes = client.ingest("GET", "/queue/status")
        bridge = client.ingest("GET", "/tokens/queue/status")
        known = _known_queues(client)
    if as_json:
        print_json({"lanes": lanes, "sqs": bridge, "queues": known})
        return
    paused = {queue["name"]: _paused_text(queue) for queue in known or []}
    stream = [queue for queue in known or [] if queue["lane"] is None]
    print_table(
        ("QUEUE", "WAITING", "STARTED", "FAILED", "PAUSED"),
        [
            (
                *(name, lane["length"], lane["started_count"], lane["failed_count"]),
                "?" if known is None else paused.get(name),
            )
            for name, lane in lanes.items()
        ]
        + [
            (queue["name"], queue["waiting"], queue["started"], None, paused[queue["name"]])
            for queue in stream
        ],
    )
    if bridge["sqs_enabled"]:
        console.print()
        info = bridge["queue_info"]
        print_fields(
            [
                ("SQS", info["queue_url"]),
                ("available", info["messages_available"]),
                ("in flight", info["messages_in_flight"]),
            ]
        )


def _known_queues(client: Client) -> list[dict[str, Any]] | None:
    """Return what the dispatcher tells of the queues; None where it is away, or an older one."""
    if not client.connection.dispatcher_url:
        return None
    try:
        found: list[dict[str, Any]] = client.dispatcher("GET", "/queues")["queues"]
    except CommandError as error:
        if error.code not in {ExitCode.UNAVAILABLE, ExitCode.NOT_FOUND}:
            raise
        return None
    return found


def _paused_text(queue: dict[str, Any]) -> str | None:
    if not queue["paused"]:
        return None
    reason = f": {queue['reason']}" if queue["reason"] else ""
    return f"since {queue['paused_since'][:16].replace('T', ' ')} by {queue['paused_by']}{reason}"


QueueArgument = Annotated[
    str, typer.Argument(metavar="QUEUE", help="Its name, as `headrace queues` shows it.")
]


def pause(
    queue: QueueArgument,
    reason: Annotated[str | None, typer.Option(help="For whoever wonders why.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take nothing off a queue from now on. Jobs are accepted and wait; those in hand go on."""
    body = {"reason": reason} if reason else {}
    _switch(queue, "pause", body, as_json=as_json)


def resume(queue: QueueArgument, *, as_json: JsonOption = False) -> None:
    """Go on with a queue that is paused."""
    _switch(queue, "resume", None, as_json=as_json)


def _switch(queue: str, verb: str, body: dict[str, str] | None, *, as_json: bool) -> None:
    with Client(find_connection([DISPATCHER_URL])) as client:
        path = f"/queues/{quote(queue, safe='')}/{verb}"
        view = client.dispatcher("POST", path, json=body)
    if as_json:
        print_json(view)
        return
    state = "is paused" if view["paused"] else "goes on"
    console.print(f"{view['name']} {state}; {view['waiting']} jobs wait in it", highlight=False)
