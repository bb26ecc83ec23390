"""Why an analysis did not come to a result."""


class AnalysisError(Exception):
    """The handler cannot give a result.

    Attributes:
        code: stable, for programs; becomes `error.code` of the report.
        message: one readable sentence without secrets; becomes `error.message`.
        retryable: whether the same task may succeed later. Final by default: bad input stays bad.
        retry_after: seconds that whoever is at fault asked to wait, where it did.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """Make the error."""
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[object, ...]:
        # Crosses process boundaries, where exceptions are rebuilt from positional arguments.
        return (_rebuild, (self.code, self.message, self.retryable, self.retry_after))


def _rebuild(
    code: str,
    message: str,
    retryable: bool,  # noqa: FBT001
    retry_after: float | None,
) -> AnalysisError:
    return AnalysisError(code, message, retryable=retryable, retry_after=retry_after)
