"""`python -m headrace_chaos.planting`: plant every bug there is, and show that each is caught."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headrace_chaos.planted import BUGS, news
from headrace_chaos.trials import try_all
from headrace_chaos.violations import Violation, ViolationKind
from headrace_chaos.world import own_database, small_world
from headrace_common.telemetry import configure_logging
from headrace_local import control
from headrace_local.pytest_plugin import LocalServers
from headrace_local.servers import SERVER_NAMES

_CONSOLE = Console(width=120)
_NOTHING = "nothing"


def main() -> int:
    """Plant everything; return 0 if the checker was right each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world-only", action="store_true", help="leave the services out")
    parser.add_argument("--code-only", action="store_true", help="only the services")
    parser.add_argument("--only", default="", help="bugs in services with this in their names")
    options = parser.parse_args()
    configure_logging(service="chaos", level="ERROR")
    right = True
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as place:
        if not options.code_only:
            right &= _in_a_world(Path(place))
        if not options.world_only:
            right &= _in_code(Path(place) / "trials", options.only)
    return 0 if right else 1


def _in_a_world(place: Path) -> bool:
    table = _table("Planted in a small world on real servers", "Violation", "Planted", "Found")
    right = True
    for kind, name, found in _planted(place):
        kinds = {violation.kind for violation in found}
        ok = kind in kinds if kind else not kinds
        table.add_row(kind or "-", name, _spoken(found), _mark(planted=bool(kind), ok=ok))
        right &= ok
    _CONSOLE.print(table)
    return right


def _planted(place: Path) -> Iterator[tuple[ViolationKind | None, str, list[Violation]]]:
    directory = place / "servers"
    control.up_detached(
        directory, servers=SERVER_NAMES, services=False, held=True, parent=os.getpid()
    )
    try:
        servers = LocalServers(directory)
        with own_database(servers) as url, small_world(servers, url, place) as world:
            yield None, "nothing: all in order", news(world)
            for bug in BUGS:
                yield bug.kind, bug.name, bug.found(world)
    finally:
        control.down(directory)


def _in_code(place: Path, only: str) -> bool:
    table = _table("Planted in the code of services, under load", "Service", "Bug", "Found")
    right = True
    for verdict in try_all(place, only):
        bug = verdict.sabotage
        service, name = (bug.module, bug.name) if bug else ("-", "none: all in order")
        mark = _mark(planted=bool(bug), ok=verdict.is_right)
        table.add_row(service, name, _spoken(verdict.found), mark)
        _CONSOLE.print(f"{service}: {name}: {mark}")  # each takes a while
        right &= verdict.is_right
        if not verdict.is_right:
            _CONSOLE.print(*map(str, verdict.found[:10]), sep="\n")
    _CONSOLE.print(table)
    return right


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, "", title=title, title_justify="left")
    table.columns[2].overflow = "fold"
    return table


def _spoken(found: Sequence[Violation]) -> str:
    kinds = sorted({violation.kind.value for violation in found})
    return ", ".join(kinds) or _NOTHING


def _mark(*, planted: bool, ok: bool) -> str:
    if not planted:
        return "[green]silent[/]" if ok else "[red]FALSE ALARM[/]"
    return "[green]caught[/]" if ok else "[red]MISSED[/]"


if __name__ == "__main__":
    sys.exit(main())
