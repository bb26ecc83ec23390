"""Parameters that several routes share."""

from typing import Annotated, Final

from fastapi import Path, Query

#: Longer than any id that the product makes or takes.
_MAX_ID_LENGTH: Final = 200
#: PostgreSQL stores no NUL in text.
_NO_NUL: Final = r"^[^\x00]*$"

JobId = Annotated[str, Path(max_length=_MAX_ID_LENGTH, pattern=_NO_NUL)]
OptionalIdQuery = Annotated[str | None, Query(max_length=_MAX_ID_LENGTH, pattern=_NO_NUL)]
RunQuery = Annotated[
    int,
    Query(
        ge=1,
        le=2**31 - 1,
        description="Run of the job that the report is on, as the callback URL names it",
    ),
]
