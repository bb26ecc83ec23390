"""`upload --direct`: how it is shown, and what Ctrl-C means."""

from types import TracebackType
from typing import Any, Self

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from headrace.client import Client
from headrace.direct.upload import DirectUpload, Errand
from headrace.failures import ExitCode
from headrace.output import console, errors


class Bars:
    """Shows a bar on a terminal, and what people should know as lines."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        """Show the upload of the file called `name`."""
        self._name = name
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task(name)

    def __enter__(self) -> Self:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it away."""
        self._progress.stop()

    def begin(self, what: str, *, done: int, total: int) -> None:
        """Begin a phase."""
        self._progress.reset(
            self._task, description=f"{what} {self._name}", completed=done, total=total
        )

    def advance(self, count: int) -> None:
        """Go on by `count` bytes."""
        self._progress.advance(self._task, count)

    def say(self, text: str) -> None:
        """Print a line; on standard error where standard output is for programs."""
        (errors if self._quiet else console).print(f"{self._name}: {text}", highlight=False)


def send_direct(client: Client, errand: Errand, *, quiet: bool) -> dict[str, Any]:
    """Upload one file straight to S3, or resume that.

    Raises:
        CommandError: it failed.
        Exit: it was interrupted, and so is the command with all that it was to upload.
    """
    with Bars(errand.path.name, quiet=quiet) as bars:
        try:
            return DirectUpload(client, errand, bars).run()
        except KeyboardInterrupt:
            errors.print(
                f"headrace: {errand.path.name}: interrupted; the same command resumes it, "
                "with --abort it gives it up",
                style="red",
                highlight=False,
                soft_wrap=True,
            )
            raise typer.Exit(ExitCode.FAILED) from None


def abort_direct(client: Client, errand: Errand, *, quiet: bool) -> dict[str, Any]:
    """Give an upload up."""
    with Bars(errand.path.name, quiet=quiet) as bars:
        return DirectUpload(client, errand, bars).abort()
