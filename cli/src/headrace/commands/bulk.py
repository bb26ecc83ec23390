"""`bulk cancel` and `bulk retry`: the same for every job that a filter finds."""

from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace import completion
from headrace.client import Client
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, console, print_json, print_table
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane

app = typer.Typer(
    help="Cancel or retry every job that a filter finds, newest first.", no_args_is_help=True
)

#: Jobs of one call, and seconds that one call may take where a rate is asked for.
_CALL_JOBS: Final = 500
_CALL_SECONDS: Final = 30

StatusOption = Annotated[
    list[JobStatus] | None,
    typer.Option("--status", "-s", help="Repeat for more. Else open ones to cancel, failed ones "
                 "to retry."),
]  # fmt: skip
KindOption = Annotated[JobKind | None, typer.Option()]
PriorityOption = Annotated[Lane | None, typer.Option("--priority", "-p")]
TokenOption = Annotated[
    str | None, typer.Option("--token", "-t", autocompletion=completion.token_ids)
]
ErrorCodeOption = Annotated[
    str | None, typer.Option("--error-code", help="Why they failed, dispatch_failed for instance.")
]
WaitingForOption = Annotated[
    str | None, typer.Option("--waiting-for", help="The dependency at fault, sqs for instance.")
]
SinceOption = Annotated[datetime | None, typer.Option(help="Created at or after.")]
UntilOption = Annotated[datetime | None, typer.Option(help="Created before.")]
IdOption = Annotated[list[str] | None, typer.Option("--id", help="A job; repeat for more.")]
AllOption = Annotated[bool, typer.Option("--all", help="That no filter is meant as it is.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only tell what there is to do.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RateOption = Annotated[float | None, typer.Option(min=0.05, max=1_000, help="Jobs a second.")]


@app.command("cancel")
def bulk_cancel(
    status: StatusOption = None,
    kind: KindOption = None,
    priority: PriorityOption = None,
    token: TokenOption = None,
    waiting_for: WaitingForOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    job: IdOption = None,
    rate: RateOption = None,
    *,
    everything: AllOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs. Shows how many there are, and asks, unless told otherwise."""
    wanted = _filter(
        status, kind, priority, token, since, until, job, waiting_for=waiting_for, error_code=None
    )
    wish = {"action": "cancel", "filter": wanted, "all": everything}
    _work(wish, rate, dry_run=dry_run, yes=yes, as_json=as_json)


@app.command("retry")
def bulk_retry(
    status: StatusOption = None,
    kind: KindOption = None,
    priority: PriorityOption = None,
    token: TokenOption = None,
    error_code: ErrorCodeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    job: IdOption = None,
    rate: RateOption = None,
    *,
    everything: AllOption = False,
    force: Annotated[bool, typer.Option("--force", help="Completed ones too.")] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Begin jobs anew. Shows how many there are, and asks, unless told otherwise."""
    wanted = _filter(
        status, kind, priority, token, since, until, job, waiting_for=None, error_code=error_code
    )
    wish = {"action": "retry", "filter": wanted, "all": everything, "force": force}
    _work(wish, rate, dry_run=dry_run, yes=yes, as_json=as_json)


def _filter(
    status: list[JobStatus] | None,
    kind: JobKind | None,
    priority: Lane | None,
    token: str | None,
    since: datetime | None,
    until: datetime | None,
    job_ids: list[str] | None,
    **codes: str | None,
) -> dict[str, Any]:
    fields = {
        "statuses": status,
        "kind": kind,
        "priority": priority,
        "token_id": token,
        "created_after": since.astimezone().isoformat() if since else None,
        "created_before": until.astimezone().isoformat() if until else None,
        "ids": job_ids,
        **codes,
    }
    return {name: value for name, value in fields.items() if value}


def _work(
    wish: dict[str, Any], rate: float | None, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    with Client() as client:
        look = client.ingest("POST", "/jobs/bulk", json={**wish, "dry_run": True})
        if dry_run:
            _print_look(look, as_json=as_json)
            return
        if not yes:
            _confirm(look, as_json=as_json)
        outcomes, refusals = _do(client, wish, rate, matched=look["matched"], quiet=as_json)
    if as_json:
        print_json({"matched": look["matched"], "outcomes": outcomes, "refusals": refusals})
        return
    console.print(
        ", ".join(f"{count} {name}" for name, count in outcomes.items()) or "Nothing to do.",
        highlight=False,
    )
    if refusals:
        print_table(("JOB", ""), [(one["job_id"], one["detail"]) for one in refusals])


def _confirm(look: dict[str, Any], *, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        raise CommandError("say --yes, or look first with --dry-run", ExitCode.USAGE)
    _print_look(look, as_json=False)
    if look["matched"]:
        typer.confirm(f"{look['action'].capitalize()} {look['matched']} jobs?", abort=True)


def _print_look(look: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"matched": look["matched"], "sample": look["sample"]})
        return
    console.print(f"{look['matched']} jobs to {look['action']}", highlight=False)
    if look["sample"]:
        print_table(
            ("JOB", "STATUS", "ERROR", "MESSAGE"),
            [
                (one["job_id"], one["status"], one["error_code"], one["message"])
                for one in look["sample"]
            ],
        )


def _do(
    client: Client, wish: dict[str, Any], rate: float | None, *, matched: int, quiet: bool
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Call until all jobs are done; what was done before a call that fails stays done."""
    call = {**wish, "limit": _CALL_JOBS}
    if rate is not None:
        most = max(min(_CALL_JOBS, int(rate * _CALL_SECONDS)), 1)
        call |= {"limit": most, "rate_per_second": rate}
    outcomes: Counter[str] = Counter()
    refusals: list[dict[str, Any]] = []
    columns = (TextColumn(wish["action"]), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=matched)
        cursor: str | None = None
        while True:
            answer = client.ingest("POST", "/jobs/bulk", json={**call, "cursor": cursor})
            outcomes.update(answer["outcomes"])
            refusals += answer["refusals"]
            progress.update(task, completed=sum(outcomes.values()))
            cursor = answer["next_cursor"]
            if cursor is None:
                return dict(outcomes), refusals
