"""`python -m headrace_rolling`: replace everything under load; see `make rolling`."""

import logging
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
from rich.console import Console
from rich.markdown import Markdown

from headrace_local.errors import LocalStackError
from headrace_rolling.account import Account, tables
from headrace_rolling.driver import Driver, Options
from headrace_rolling.releases import NoHistoryError

_console: Final = Console(soft_wrap=True)
_PAGE: Final = Path(__file__).parents[3] / "docs" / "how-to" / "upgrade.md"
_BEGIN: Final = "<!-- begin: written by `make rolling` -->"
_END: Final = "<!-- end -->"


def rolling(
    directory: Annotated[Path, typer.Option(help="For the stack, the code and the ledger.")] = (
        Path(".headrace") / "rolling"
    ),
    *,
    write: Annotated[bool, typer.Option(help="Write the tables into docs/how-to/upgrade.md.")] = (
        True
    ),
) -> None:
    """Replace every replica under load, go back to earlier versions and come again. Exits 1 if a
    request failed, or a job was lost or done twice."""
    # Its end has to take the stack along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if (directory / "stack").exists():
        shutil.rmtree(directory)
    accounts: list[Account] = []
    try:
        driver = Driver(
            Options(directory.resolve()), say=lambda line: _console.print(line, highlight=False)
        )
        for account in driver.run():
            accounts.append(account)
            for fault in account.faults():
                _console.print(f"  {fault}", style="red", highlight=False, markup=False)
            _console.print(f"{account.title}: {'right' if account.is_right else 'WRONG'}")
    except NoHistoryError as error:
        _console.print(f"earlier versions cannot be had: {error}")
        raise typer.Exit(2) from None
    except LocalStackError as error:
        _console.print(f"the stack failed: {error}; its logs are in {directory}/stack/logs")
        raise typer.Exit(2) from None
    lines = list(tables(accounts))
    _console.print(Markdown("\n".join(lines)))
    if write:
        _write(lines)
    right = all(account.is_right for account in accounts)
    if right:
        shutil.rmtree(directory / "stack" / "data", ignore_errors=True)
    sys.exit(0 if right else 1)


def _write(lines: list[str]) -> None:
    """Put the tables between the marks of the page."""
    before, _, rest = _PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text("\n".join([before + _BEGIN, "", *lines, "", _END + after]))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(rolling)
    app()
