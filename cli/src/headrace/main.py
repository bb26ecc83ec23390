"""The `headrace` program."""

import sys

import typer

from headrace.commands import (
    audit,
    bulk,
    calendars,
    cameras,
    dead,
    demo,
    jobs,
    operate,
    operations,
    rollout,
    schedules,
    stack,
    targets,
    tokens,
    verify,
    worker,
)
from headrace.failures import CommandError, ExitCode
from headrace.output import errors
from headrace_common.errors import HeadraceError

app = typer.Typer(
    name="headrace",
    help="Takes recordings in, has cameras looked at, follows the jobs, and runs the whole stack "
    "on a laptop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(stack.logs)
app.command()(stack.start)
app.command()(stack.stop)
app.command()(stack.restart)
app.command()(stack.env)
app.command()(jobs.upload)
app.command("jobs")(jobs.list_jobs)
app.command("job")(jobs.show)
app.command()(jobs.watch)
app.command()(operate.cancel)
app.command()(operate.retry)
app.add_typer(bulk.app, name="bulk")
app.command()(operate.queues)
app.command()(operate.pause)
app.command()(operate.resume)
app.command()(cameras.preprocess)
app.command()(verify.verify)
app.command()(demo.demo)
app.add_typer(tokens.app, name="tokens")
app.add_typer(cameras.app, name="cameras")
app.add_typer(schedules.app, name="schedules")
app.add_typer(calendars.app, name="calendars")
app.add_typer(targets.app, name="targets")
app.add_typer(worker.app, name="worker")
app.add_typer(rollout.app, name="rollout")
app.add_typer(dead.app, name="dead")
app.command()(audit.audit)
operations.keys.command("signing")(verify.make_signing_key)
app.add_typer(operations.db, name="db")
app.add_typer(operations.keys, name="keys")
app.add_typer(operations.sqs, name="sqs")


def main() -> None:
    """Run a command; what goes wrong is one line on standard error and an exit code."""
    try:
        app()
    except CommandError as error:
        _fail(str(error), error.code)
    except HeadraceError as error:
        code = ExitCode.NOT_FOUND if error.status == 404 else ExitCode.REFUSED
        _fail(error.detail, code)


def _fail(message: str, code: ExitCode) -> None:
    errors.print(f"headrace: {message}", style="red", highlight=False, soft_wrap=True)
    sys.exit(code)
