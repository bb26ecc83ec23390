"""How commands fail: one readable line, and an exit code that scripts can use."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; documented in docs/reference/cli.md."""

    OK = 0
    #: What was asked for was done and ended badly: a job failed or was cancelled.
    FAILED = 1
    #: The command line itself is wrong (Typer's own code).
    USAGE = 2
    NOT_FOUND = 3
    #: The server understood and refused: key, state, or content.
    REFUSED = 4
    #: A server does not answer, or asks to come back later.
    UNAVAILABLE = 5


class CommandError(Exception):
    """Ends a command with one line on standard error."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        """Fail with `message` and `code`."""
        super().__init__(message)
        self.code = code
