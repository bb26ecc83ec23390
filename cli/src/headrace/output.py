"""What commands print: JSON for programs, tables and lines for people."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Wide enough that no line is broken where another program reads.
_PIPE_WIDTH: Final = 1_000

console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(data: Any) -> None:
    """Print `data` as indented JSON."""
    console.print_json(json.dumps(data, default=str), highlight=False)


def print_json_line(data: Any) -> None:
    """Print `data` as one line of JSON, for streams."""
    typer.echo(json.dumps(data, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows below headings; the first column is never broken, so that it can be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    console.print(table)


def print_heading(text: str) -> None:
    """Print a heading: a rule across a terminal, a line elsewhere."""
    if console.is_terminal:
        console.rule(f"[bold]{text}")
    else:
        console.print(f"\n== {text}", highlight=False)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line; those without a value are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value not in (None, "", {}, []):
            table.add_row(escape(name), escape(str(value)))
    console.print(table)
