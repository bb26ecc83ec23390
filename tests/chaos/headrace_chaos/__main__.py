"""`python -m headrace_chaos`: break a stack, and prove that no job was hurt; see `make chaos`."""

import logging
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from headrace_chaos.driver import Driver, Options
from headrace_local.errors import LocalStackError

_console = Console(soft_wrap=True)


def chaos(
    jobs: Annotated[int, typer.Option(min=1, help="Jobs of the workload.")] = 400,
    faults: Annotated[int, typer.Option(min=0, help="Faults.")] = 30,
    minutes: Annotated[float, typer.Option(min=0.1, help="Over which both are spread.")] = 5,
    seed: Annotated[int, typer.Option(help="Repeats the workload and the faults.")] = 1,
    directory: Annotated[
        Path | None, typer.Option(help="For the stack, the ledger and the report.")
    ] = None,
    *,
    keep: Annotated[bool, typer.Option(help="Keep the servers' data even if all is well.")] = False,
) -> None:
    """Run a workload against a stack of its own and break everything meanwhile. Exits 1 if a
    job was hurt."""
    # Its end has to take the stack along, and wake what is frozen.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    place = directory or Path(".headrace") / "chaos" / str(seed)
    if (place / "stack").exists():
        shutil.rmtree(place)
    options = Options(
        directory=place.resolve(),
        seed=seed,
        jobs=jobs,
        faults=faults,
        seconds=minutes * 60,
        command=(
            *("make", "chaos", f"JOBS={jobs}", f"FAULTS={faults}"),
            *(f"MINUTES={minutes:g}", f"SEED={seed}"),
        ),
    )
    try:
        report = Driver(options, say=lambda line: _console.print(line, highlight=False)).run()
    except LocalStackError as error:
        _console.print(f"the stack failed: {error}; its logs are in {place}/stack/logs")
        raise typer.Exit(2) from None
    report.write(options.directory)
    report.show(_console)
    _console.print(f"report and logs are in {options.directory}")
    if report.is_clean and not keep:
        shutil.rmtree(options.directory / "stack" / "data", ignore_errors=True)
    sys.exit(0 if report.is_clean else 1)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(chaos)
    app()
