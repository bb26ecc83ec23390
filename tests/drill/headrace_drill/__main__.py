"""`python -m headrace_drill`: kill and freeze schedulers, and check each due time."""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace_drill.driver import Options, run
from headrace_local import control

_console = Console(soft_wrap=True)


def drill(
    minutes: Annotated[float, typer.Option(min=0.1, help="Of killing and freezing.")] = 10,
    schedules: Annotated[int, typer.Option(min=1, help="That fire meanwhile.")] = 500,
    seed: Annotated[int, typer.Option(help="Repeats the schedules and the faults.")] = 1,
    lease: Annotated[float, typer.Option(min=2, help="Seconds, of the leader.")] = 15,
) -> None:
    """Run three schedulers, one of whose clocks is wrong, and kill or freeze one every few
    seconds. Exits 1 if a due time did not fire once."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = (Path(".headrace") / "drill" / str(seed)).resolve()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    options = Options(
        directory=place,
        schedules=schedules,
        seconds=minutes * 60,
        seed=seed,
        lease_seconds=lease,
    )
    stack = place / "stack"
    up = control.up_detached(
        stack, servers=["postgres", "valkey"], services=False, parent=os.getpid()
    )
    try:
        report = run(options, up.state.env, say=lambda line: _console.print(line, highlight=False))
    finally:
        control.down(stack)
    for line in report.lines():
        _console.print(line, highlight=False)
    sys.exit(0 if report.is_clean else 1)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(drill)
    app()
