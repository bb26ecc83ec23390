"""What requests say: which letters, and what is to be done with them."""

from typing import Annotated, Final, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from headrace_common.db import is_storable
from headrace_dispatcher.dead.filters import LetterFilter, Selection
from headrace_dispatcher.dead.letter import Source

#: Letters of one request; a larger heap takes several.
_MOST: Final = 100_000
_MOST_IDS: Final = 10_000


def _storable(value: str) -> str:
    if not is_storable(value):
        raise ValueError("has characters that no text of ours has")
    return value


Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_storable)]


class FilterWish(BaseModel):
    """Letters by what is known of them; every field that is set must hold."""

    model_config = ConfigDict(extra="forbid")

    source: Source | None = None
    queue: Text | None = None
    code: Text | None = None
    fingerprint: Text | None = None
    job_id: Text | None = None
    died_after: AwareDatetime | None = Field(default=None, description="Inclusive")
    died_before: AwareDatetime | None = Field(default=None, description="Exclusive")
    text: Text | None = Field(
        default=None, description="Stands in the reason, the code, or one of the ids"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError('an empty filter is all letters: say so by "all": true')
        return self

    def as_filter(self) -> LetterFilter:
        """Return the filter."""
        return LetterFilter(**self.model_dump())


class LettersWish(BaseModel):
    """Which dead letters are meant: `ids`, `filter` or `all`, exactly one of them."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Text], Field(min_length=1, max_length=_MOST_IDS)] | None = None
    filter: FilterWish | None = None
    all: bool = False
    limit: int = Field(
        default=10_000, ge=1, le=_MOST, description="So many at most, those that died first"
    )
    dry_run: bool = Field(default=False, description="Only say what would be done")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.ids is not None) + (self.filter is not None) + self.all != 1:
            raise ValueError("say exactly one of ids, filter and all")
        return self

    def selection(self) -> Selection:
        """Return the letters that are meant."""
        return Selection(
            ids=tuple(self.ids) if self.ids is not None else None,
            wanted=self.filter.as_filter() if self.filter else None,
            limit=self.limit,
        )


class ReplayWish(LettersWish):
    """Which dead letters are to be replayed, and how fast."""

    rate_per_second: float | None = Field(
        default=None, gt=0, le=10_000, description="So many a second; all at once if left out"
    )


class DropWish(LettersWish):
    """Which dead letters are to be dropped."""
