"""Following a job: a progress bar on a terminal, a line an event elsewhere, or JSON lines."""

from collections.abc import Iterator
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from headrace.client import Client
from headrace.output import console, print_json_line
from headrace_common.contracts.jobs import JobStatus


def follow(client: Client, job_id: str, *, as_json: bool) -> JobStatus:
    """Show a job's events until its end, and return its final status."""
    events = client.events(job_id)
    if as_json:
        return _last_status(_json_lines(events))
    if console.is_terminal:
        return _bar(events)
    return _last_status(_plain_lines(events))


def _bar(events: Iterator[tuple[str, dict[str, Any]]]) -> JobStatus:
    columns = (
        TextColumn("[bold]{task.fields[status]:<20}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )
    status = JobStatus.UPLOADING
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=100, status=status.value)
        for name, data in events:
            if name == "queue_position":
                progress.update(task, description=f"place {data['place']}")
                continue
            if name != "ignored":
                status = JobStatus(data["status"])
                progress.console.print(_line(name, data), style="dim", highlight=False)
            progress.update(
                task, completed=data["progress"], status=status.value, description="", refresh=True
            )
    return status


def _plain_lines(
    events: Iterator[tuple[str, dict[str, Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, data in events:
        console.print(_line(name, data), highlight=False)
        yield name, data


def _json_lines(
    events: Iterator[tuple[str, dict[str, Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, data in events:
        print_json_line({"event": name, **data})
        yield name, data


def _last_status(events: Iterator[tuple[str, dict[str, Any]]]) -> JobStatus:
    status = JobStatus.UPLOADING
    for name, data in events:
        if name in {"status", "restarted"}:
            status = JobStatus(data["status"])
    return status


def _line(name: str, data: dict[str, Any]) -> str:
    if name == "queue_position":
        return f"           waiting, place {data['place']} in its lane"
    clock = data["created_at"][11:19]
    return f"{clock}  {data['progress']:>3} %  {data['status']:<20} {data['message']}"
