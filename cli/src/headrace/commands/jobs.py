"""`upload`, `jobs`, `job`, `watch`: what users do with jobs."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from headrace import completion
from headrace.begin import AtOption, DelayOption, begin_fields
from headrace.camera_output import print_camera_job
from headrace.client import Client, job_path
from headrace.commands.direct import abort_direct, send_direct
from headrace.direct.upload import Errand
from headrace.failures import CommandError, ExitCode
from headrace.following import follow
from headrace.output import JsonOption, console, print_fields, print_json, print_table
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane

#: Columns from which a list of jobs has room for its longer fields.
_WIDE = 120

JobArgument = Annotated[str, typer.Argument(metavar="JOB", autocompletion=completion.job_ids)]


def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False)],
    token: Annotated[
        str, typer.Option("--token", "-t", autocompletion=completion.token_ids, help="Token id.")
    ],
    priority: Annotated[Lane, typer.Option("--priority", "-p")] = Lane.NORMAL,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Sent along with the one FILE: repeating the command repeats no job."),
    ] = None,
    at: AtOption = None,
    delay: DelayOption = None,
    *,
    follow_jobs: Annotated[
        bool, typer.Option("--follow", "-f", help="Watch the jobs until their end.")
    ] = False,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct", help="Straight to S3 in parts; the same command again resumes it."
        ),
    ] = False,
    parallel: Annotated[
        int, typer.Option(min=1, max=32, help="With --direct: parts at a time.")
    ] = 4,
    abort: Annotated[
        bool, typer.Option("--abort", help="With --direct: give an upload up that was begun.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload recordings. With --follow, exits 1 unless every job was completed.

    A file that is refused is named, the others are uploaded all the same.
    """
    if idempotency_key and len(files) > 1:
        raise CommandError("--idempotency-key goes with one FILE", ExitCode.USAGE)
    if abort and (follow_jobs or not direct):
        raise CommandError("--abort goes with --direct, without --follow", ExitCode.USAGE)
    begin = begin_fields(at, delay)
    how = abort_direct if abort else send_direct if direct else send
    answers: list[dict[str, Any]] = []
    refusals: list[CommandError] = []
    statuses: list[JobStatus] = []
    with Client() as client:
        for path in files:
            errand = Errand(path, token, priority.value, idempotency_key, parallel, begin)
            try:
                answer = how(client, errand, quiet=as_json)
            except CommandError as error:
                # The others are no worse for it, and their ids must be known.
                refusals.append(CommandError(f"{path}: {error}", error.code))
                continue
            answers.append(answer)
            if not as_json:
                print_accepted(answer)
        if as_json and not follow_jobs:
            print_json(answers)
        if follow_jobs:
            statuses = [follow(client, a["job_id"], as_json=as_json) for a in answers]
    if refusals:
        raise CommandError("\n".join(map(str, refusals)), refusals[0].code)
    if any(status is not JobStatus.COMPLETED for status in statuses):
        raise typer.Exit(ExitCode.FAILED)


def print_accepted(answer: dict[str, Any]) -> None:
    """Print what became of an upload."""
    if "state" in answer:
        console.print(f"given up: job [bold]{answer['job_id']}[/] {answer['job_status']}")
        return
    if figures := answer.get("direct"):
        console.print(
            f"{figures['sent']} parts sent, {figures['skipped']} were there", highlight=False
        )
    console.print(
        f"{answer['message']}: job [bold]{answer['job_id']}[/] {answer['status']}", highlight=False
    )


def send(client: Client, errand: Errand, *, quiet: bool) -> dict[str, Any]:
    """Upload one file through the API, with a progress bar on a terminal."""
    hidden = quiet or not console.is_terminal
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with (
        errand.path.open("rb") as file,
        Progress(*columns, console=console, transient=True, disable=hidden) as progress,
    ):
        task = progress.add_task(errand.path.name, total=errand.path.stat().st_size)
        reader = _Counted(file, lambda count: progress.advance(task, count))
        return client.upload(
            errand.token,
            reader,
            name=errand.path.name,
            priority=errand.priority,
            begin=errand.begin,
            idempotency_key=errand.idempotency_key,
        )


class _Counted(io.BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, file: io.BufferedReader, advance: Any) -> None:
        super().__init__(file.raw)
        self._advance = advance

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._advance(len(data))
        return data


def list_jobs(
    status: Annotated[
        list[JobStatus] | None, typer.Option("--status", "-s", help="Repeat for more.")
    ] = None,
    kind: Annotated[JobKind | None, typer.Option()] = None,
    priority: Annotated[Lane | None, typer.Option("--priority", "-p")] = None,
    token: Annotated[
        str | None, typer.Option("--token", "-t", autocompletion=completion.token_ids)
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Created at or after.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Why they failed.")] = None,
    waiting_for: Annotated[
        str | None, typer.Option(help="The dependency at fault that they wait for.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the page before.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    params: dict[str, Any] = {
        "status": [item.value for item in status or []],
        "kind": kind,
        "priority": priority,
        "token_id": token,
        "created_after": since.astimezone().isoformat() if since else None,
        "error_code": error_code,
        "waiting_for": waiting_for,
        "limit": limit,
        "cursor": cursor,
    }
    with Client() as client:
        page = client.results(
            "GET", "/jobs", params={key: value for key, value in params.items() if value}
        )
    if as_json:
        print_json(page)
        return
    wide = console.width >= _WIDE
    now = datetime.now(UTC)
    print_table(
        ("JOB", "STATUS", "%", "PRIORITY", "AGE", *(("TOKEN, CAMERA", "MESSAGE") if wide else ())),
        [
            (
                *(job["job_id"], job["status"], job["progress"], job["priority"]),
                _age(now - datetime.fromisoformat(job["created_at"])),
                *((job["token_id"] or job["input"].get("cctv_id"), job["message"]) if wide else ()),
            )
            for job in page["jobs"]
        ],
    )
    if page["next_cursor"]:
        console.print(f"More with --cursor {page['next_cursor']}", style="dim", soft_wrap=True)


def _age(age: timedelta) -> str:
    """Say how long ago, in the largest unit that fits."""
    for seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if age.total_seconds() >= seconds:
            return f"{age.total_seconds() // seconds:.0f}{unit}"
    return f"{max(age.total_seconds(), 0):.0f}s"


def show(job_id: JobArgument, *, as_json: JsonOption = False) -> None:
    """Show a job with its timeline."""
    with Client() as client:
        job = client.results("GET", path := job_path(job_id))
        timeline = client.results("GET", f"{path}/timeline")
        camera = job["kind"] == JobKind.CCTV_PREPROCESS
        files = client.results("GET", f"{path}/artifacts") if camera else None
    if as_json:
        print_json({**job, "timeline": timeline["events"]})
        return
    if files is None:
        print_job(job)
    else:
        print_camera_job(job, files["artifacts"])
    console.print()
    print_table(
        ("TIME", "%", "STATUS", ""),
        [
            (e["created_at"][:23].replace("T", " "), e["progress"], e["status"], e["message"])
            for e in timeline["events"]
        ],
    )


def print_job(job: dict[str, Any]) -> None:
    """Print a job's fields for people."""
    fields = ("job_id", "kind", "status", "progress", "message", "priority", "token_id")
    print_fields((name, job[name]) for name in fields)
    # The first run is nothing to tell.
    print_fields((name, job[name]) for name in ("run",) if job[name] > 1)
    # An older results service does not tell it.
    print_fields((name, job[name]) for name in ("run_at",) if job.get(name))
    names = ("retry_at", "waiting_for", "transport", "trace_id", "created_at")
    print_fields((name, job[name]) for name in names)
    for name in ("input", "metadata", "error", "result"):
        if job[name]:
            print_fields([(name, json.dumps(job[name], indent=2))])


def watch(job_id: JobArgument, *, as_json: JsonOption = False) -> None:
    """Follow a job to its end. Exits 1 unless it was completed."""
    with Client() as client:
        status = follow(client, job_id, as_json=as_json)
    if status is not JobStatus.COMPLETED:
        raise typer.Exit(ExitCode.FAILED)
