"""No migration breaks the version before, which works beside it during a roll-out (D5).

The migration Job runs first; then pods of both versions write to the new schema, and a roll-out
that is taken back leaves the old ones alone with it. So a migration may add, and nothing else;
what is to go is let go of by one release and dropped by the next (docs/how-to/upgrade.md).
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext

from headrace_common.db import models

_FOLDER: Final = Path(models.__file__).parent / "migrations" / "versions"
#: The one that nothing was before.
_BASELINE: Final = "0001"
#: What breaks a rule all the same: revision and fault, and why it may. Whoever adds one has tried
#: it with `make rolling`.
_EXCUSED: Final[dict[tuple[str, str], str]] = {}


@dataclass(frozen=True)
class Step:
    """One operation of a migration.

    Attributes:
        outside: whether it runs outside a transaction.
    """

    operation: ops.MigrateOperation
    outside: bool


def record(change: Callable[[], None]) -> list[Step]:
    """Return what a migration's `upgrade` does; it is written to nowhere instead of done."""
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": StringIO()}
    )
    steps: list[Step] = []
    blocks: list[bool] = []

    @contextmanager
    def autocommit_block() -> Iterator[None]:
        blocks.append(True)
        yield
        blocks.pop()

    def invoke(operation: ops.MigrateOperation) -> None:
        steps.append(Step(operation, outside=bool(blocks)))

    with (
        Operations.context(context) as operations,
        patch.object(context, "autocommit_block", autocommit_block),
        patch.object(operations, "invoke", invoke),
    ):
        change()
    return steps


def faults(steps: list[Step]) -> Iterator[str]:
    """Tell what the version before could not live with."""
    made = {
        step.operation.table_name for step in steps if isinstance(step.operation, ops.CreateTableOp)
    }
    for step in steps:
        if getattr(step.operation, "table_name", None) not in made:
            yield from _fault(step)


def _fault(step: Step) -> Iterator[str]:
    match step.operation:
        case ops.CreateTableOp() | ops.CreateTableCommentOp():
            return
        case ops.AddColumnOp(column=column):
            yield from _added(column)
        case ops.AlterColumnOp() as change:
            yield from _altered(change)
        case ops.CreateIndexOp() as index:
            if index.unique:
                yield f"{index.index_name}: the version before may write what it refuses"
            yield from _beside_the_traffic(step, str(index.index_name), index.kw)
        case ops.DropIndexOp() as index:
            yield from _beside_the_traffic(step, str(index.index_name), index.kw)
        case other:
            yield f"{type(other).__name__}: adds nothing, or nobody knows what it does"


def _added(column: sa.Column[Any]) -> Iterator[str]:
    if not column.nullable and column.server_default is None:
        yield f"{column.name}: the version before inserts rows without it, and it has no default"
    if column.unique or column.foreign_keys:
        yield f"{column.name}: a constraint on rows that the version before writes"


def _altered(change: ops.AlterColumnOp) -> Iterator[str]:
    if change.modify_type is not None:
        yield f"{change.column_name}: another type"
    if change.modify_name is not None:
        yield f"{change.column_name}: another name"
    if change.modify_nullable is not None:
        yield f"{change.column_name}: NULL where the version before knows none, or the reverse"
    if change.modify_server_default is not False:
        yield f"{change.column_name}: another default"


def _beside_the_traffic(step: Step, name: str, options: dict[str, Any]) -> Iterator[str]:
    if not (options.get("postgresql_concurrently") and step.outside):
        yield f"{name}: locks out whoever writes; needs CONCURRENTLY and an autocommit block"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rules_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MIGRATIONS: Final = sorted(path for path in _FOLDER.glob("[0-9]*.py"))


@pytest.mark.parametrize("path", _MIGRATIONS, ids=lambda path: path.stem)
def test_the_version_before_can_live_with_it(path: Path) -> None:
    migration = _load(path)
    if migration.revision == _BASELINE:
        assert migration.down_revision is None
        return
    steps = record(migration.upgrade)
    assert steps
    found = {fault for fault in faults(steps) if (migration.revision, fault) not in _EXCUSED}
    assert found == set()


def test_every_excuse_is_needed() -> None:
    broken = {
        (migration.revision, fault)
        for migration in map(_load, _MIGRATIONS)
        for fault in faults(record(migration.upgrade))
    }
    assert _EXCUSED.keys() <= broken
    assert all(_EXCUSED.values())


def _op() -> Any:
    from alembic import op  # noqa: PLC0415 - it is what migrations see

    return op


def _index_within_a_transaction() -> None:
    _op().create_index("ix", "jobs", ["run"], postgresql_concurrently=True)


def _index_with_a_lock() -> None:
    with _op().get_context().autocommit_block():
        _op().create_index("ix", "jobs", ["run"])


def _unique_index() -> None:
    with _op().get_context().autocommit_block():
        _op().create_index("ix", "jobs", ["run"], unique=True, postgresql_concurrently=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda: _op().drop_table("jobs"),
        lambda: _op().rename_table("jobs", "work"),
        lambda: _op().drop_column("jobs", "run"),
        lambda: _op().alter_column("jobs", "run", new_column_name="round"),
        lambda: _op().alter_column("jobs", "run", type_=sa.SmallInteger()),
        lambda: _op().alter_column("jobs", "error_code", nullable=False),
        lambda: _op().alter_column("jobs", "run", nullable=True),
        lambda: _op().alter_column("jobs", "run", server_default=None),
        lambda: _op().add_column("jobs", sa.Column("new", sa.Text(), nullable=False)),
        lambda: _op().add_column("jobs", sa.Column("new", sa.Text(), unique=True)),
        lambda: _op().add_column("jobs", sa.Column("new", sa.Text(), sa.ForeignKey("tokens.id"))),
        lambda: _op().create_check_constraint("few", "jobs", "run < 3"),
        lambda: _op().create_unique_constraint("one", "jobs", ["run"]),
        lambda: _op().create_foreign_key("of", "jobs", "tokens", ["token_id"], ["id"]),
        lambda: _op().drop_constraint("jobs_pkey", "jobs"),
        lambda: _op().drop_index("ix_jobs_created_at_id", "jobs"),
        lambda: _op().execute("UPDATE jobs SET run = 2"),
        _index_within_a_transaction,
        _index_with_a_lock,
        _unique_index,
    ],
)
def test_what_breaks_the_version_before_is_seen(change: Callable[[], None]) -> None:
    assert list(faults(record(change)))


def test_what_only_adds_is_let_through() -> None:
    def change() -> None:
        op = _op()
        op.create_table("new", sa.Column("id", sa.Text(), primary_key=True))
        op.create_index("ix_new", "new", ["id"], unique=True)
        op.add_column("jobs", sa.Column("some", sa.Text(), nullable=True))
        op.add_column(
            "jobs", sa.Column("many", sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
        op.alter_column("jobs", "run", comment="said otherwise", existing_type=sa.Integer())
        with op.get_context().autocommit_block():
            op.create_index("ix", "jobs", ["many"], postgresql_concurrently=True)

    assert list(faults(record(change))) == []
