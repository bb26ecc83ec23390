"""Why an analysis did not come to a result."""


class AnalysisError(Exception):
    """The handler cannot give a result.

    Attributes:
        code: stable, for programs; becomes `error.code` of the report.
        message: one readable sentence without secrets; becomes `error.message`.
        retryable: whether the same task may succeed later. Final by default: bad input stays bad.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        """Make the error."""
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[object, ...]:
        # Crosses process boundaries, where exceptions are rebuilt from positional arguments.
        return (_rebuild, (self.code, self.message, self.retryable))


def _rebuild(code: str, message: str, retryable: bool) -> AnalysisError:  # noqa: FBT001
    return AnalysisError(code, message, retryable=retryable)
