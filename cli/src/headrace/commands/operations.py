"""`db`, `keys` and `sqs`: what operators run beside the services, straight on the servers.

The libraries of the servers are loaded by the commands that use them: all others are as quick
as they can be.
"""
# ruff: noqa: PLC0415

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from headrace.connection import find_database, find_environment
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, console, print_json, print_table
from headrace_common.contracts.lanes import Lane
from headrace_common.scopes import Scope

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from headrace_common.settings import DatabaseSettings

db = typer.Typer(help="The database: DATABASE_URL, or the local stack's.", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
sqs = typer.Typer(help="SQS queues.", no_args_is_help=True)


@contextmanager
def _database() -> "Iterator[DatabaseSettings]":
    """Find the database, and say so in one line when it does not answer."""
    from sqlalchemy.exc import OperationalError

    try:
        yield find_database()
    except OperationalError:
        raise CommandError(
            "the database does not answer, see DATABASE_URL", ExitCode.UNAVAILABLE
        ) from None


@contextmanager
def _transaction() -> "Iterator[Session]":
    from headrace_common.db import Database

    with _database() as settings, Database(settings).begin() as session:
        yield session


@db.command("upgrade")
def db_upgrade(*, as_json: JsonOption = False) -> None:
    """Bring the schema up to date; safe to run from several pods at once."""
    from headrace_common.db import upgrade

    with _database() as settings:
        applied = upgrade(settings)
    if as_json:
        print_json({"applied": applied})
    else:
        console.print(f"Applied {', '.join(applied)}." if applied else "Nothing to do.")


@db.command("status")
def db_status(*, as_json: JsonOption = False) -> None:
    """Show what `db upgrade` would do. Exits 1 if there is something."""
    from headrace_common.db import pending_migrations

    with _database() as settings:
        pending = pending_migrations(settings)
    if as_json:
        print_json({"pending": pending})
    else:
        console.print(f"Pending: {', '.join(pending)}." if pending else "Up to date.")
    if pending:
        raise typer.Exit(ExitCode.FAILED)


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Whom or what it is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it allows; repeat for more.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Create a key and print it, the only time that it can be read."""
    if not scope:
        raise CommandError("name at least one --scope", ExitCode.USAGE)
    from headrace_common import keys as api_keys

    with _transaction() as session:
        created = api_keys.create(session, name=name, scopes=scope)
    if as_json:
        print_json({"id": created.id, "name": name, "scopes": scope, "key": created.secret_text})
    else:
        typer.echo(created.secret_text)


@keys.command("list")
def keys_list(*, as_json: JsonOption = False) -> None:
    """List the keys, without their secrets."""
    from headrace_common import keys as api_keys

    with _transaction() as session:
        rows = api_keys.list_keys(session)
    if as_json:
        fields = ("id", "name", "scopes", "created_at", "last_used_at", "revoked_at")
        print_json([{field: getattr(row, field) for field in fields} for row in rows])
        return
    print_table(
        ("ID", "NAME", "SCOPES", "CREATED", "LAST USED", "REVOKED"),
        [
            (
                *(row.id, row.name, " ".join(row.scopes)),
                *(
                    f"{moment:%F %T}" if moment else ""
                    for moment in (row.created_at, row.last_used_at, row.revoked_at)
                ),
            )
            for row in rows
        ],
    )


@keys.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """End a key at once."""
    from headrace_common import keys as api_keys

    with _transaction() as session:
        row = api_keys.revoke(session, key_id)
    console.print(f"Revoked {row.id} ({row.name}).")


@sqs.command("create-queues")
def sqs_create_queues(
    *,
    fifo: Annotated[bool, typer.Option("--fifo", help="FIFO queues instead of standard.")] = False,
    lane_queues: Annotated[
        bool, typer.Option("--lane-queues/--one-queue", help="A queue of its own for each lane.")
    ] = True,
    prefix: Annotated[str, typer.Option(help="Put before each name.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Create the queues with their dead-letter queues and redrive policies, where missing."""
    from botocore.exceptions import BotoCoreError, ClientError

    from headrace_common.settings import SqsSettings
    from headrace_common.sqs import ensure_queues, sqs_client

    environment = {name.lower(): value for name, value in find_environment().items()}
    try:
        settings = SqsSettings.model_validate(
            {key: value for key, value in environment.items() if key in SqsSettings.model_fields}
        )
        urls = ensure_queues(
            sqs_client(settings), lane_queues=lane_queues, fifo=fifo, prefix=prefix
        )
    except ValidationError as error:
        raise CommandError(f"bad settings: {error.errors()[0]['msg']}", ExitCode.USAGE) from None
    except (BotoCoreError, ClientError) as error:
        raise CommandError(f"SQS: {error}", ExitCode.UNAVAILABLE) from None
    named = {
        "SQS_QUEUE_URL": urls.by_lane[Lane.NORMAL],
        "SQS_QUEUE_URL_HIGH": urls.by_lane[Lane.HIGH],
        "SQS_QUEUE_URL_LOW": urls.by_lane[Lane.LOW],
        "SQS_RESULT_QUEUE_URL": urls.results,
    }
    if as_json:
        print_json(named)
    else:
        for name, url in named.items():
            typer.echo(f"{name}={url}")
