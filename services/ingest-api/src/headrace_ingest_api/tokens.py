"""Tokens: the reference items that recordings imitate (A2), and where they are kept."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Protocol
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.db import Database, Token, is_storable
from headrace_common.errors import ConflictError, NotFoundError

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_TITLE_CHARACTERS: Final = 500
MAX_URL_CHARACTERS: Final = 2_000


def _usable_id(value: str) -> str:
    if not _ID.fullmatch(value) or set(value) == {"."}:
        raise ValueError("an id has 1 to 128 letters, digits, dots, underscores and hyphens")
    return value


def _storable(value: Any) -> Any:
    if isinstance(value, str) and not is_storable(value):
        raise ValueError("must not contain U+0000 or half of a surrogate pair")
    if isinstance(value, dict):
        for key, item in value.items():
            _storable(key)
            _storable(item)
    if isinstance(value, list):
        for item in value:
            _storable(item)
    return value


TokenId = Annotated[str, AfterValidator(_usable_id)]
Title = Annotated[str, Field(max_length=MAX_TITLE_CHARACTERS), AfterValidator(_storable)]
S3Url = Annotated[str, Field(max_length=MAX_URL_CHARACTERS), AfterValidator(_storable)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_storable)]


class TokenChanges(BaseModel):
    """Changes of a token, after RFC 7396: what is absent stays, what is null goes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"title": "Mary rolled the barrel", "metadata": {"take": 2}}},
    )

    title: Title | None = None
    s3_textgrid_url: S3Url | None = Field(
        default=None, description="s3://bucket/key of the Praat TextGrid with the alignment"
    )
    s3_pitch_url: S3Url | None = Field(
        default=None, description="s3://bucket/key of the reference pitch JSON"
    )
    metadata: Metadata | None = Field(
        default=None, description="Merged into what is there; a null value removes its key"
    )


class NewToken(TokenChanges):
    """A token to be created."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"id": "mary", "title": "Mary rolled the barrel"}},
    )

    id: TokenId | None = Field(default=None, description="Made up where it is not given")


class TokenReference(Protocol):
    """What a job keeps of its token."""

    @property
    def id(self) -> str:
        """The token's."""

    @property
    def s3_textgrid_url(self) -> str | None:
        """The reference alignment, if there is one."""

    @property
    def s3_pitch_url(self) -> str | None:
        """The reference pitch, if there is one."""


class TokenView(BaseModel):
    """A token."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(examples=["mary"])
    title: str | None
    s3_textgrid_url: str | None
    s3_pitch_url: str | None
    metadata: dict[str, JsonValue]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Token) -> "TokenView":
        """Show a row."""
        return cls(
            id=row.id,
            title=row.title,
            s3_textgrid_url=row.s3_textgrid_url,
            s3_pitch_url=row.s3_pitch_url,
            metadata=row.meta,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@dataclass(frozen=True)
class TokenPage:
    """Some tokens, newest first, and the cursor of the next page if there is one."""

    tokens: list[TokenView]
    next_cursor: str | None


def create_token(database: Database, new: NewToken) -> TokenView:
    """Create a token.

    Raises:
        ConflictError: there is one with that id.
    """
    token_id = new.id or str(uuid4())
    statement = (
        insert(Token)
        .values(
            id=token_id,
            title=new.title,
            s3_textgrid_url=new.s3_textgrid_url,
            s3_pitch_url=new.s3_pitch_url,
            meta=merged({}, new.metadata or {}),
        )
        .on_conflict_do_nothing()
        .returning(Token)
    )
    with database.begin() as session:
        row = session.scalar(statement)
        if row is None:
            raise ConflictError(f"there is a token {token_id!r} already")
        return TokenView.of(row)


def find_token(database: Database, token_id: str) -> TokenView:
    """Return a token.

    Raises:
        NotFoundError: there is none with that id.
    """
    with database.begin() as session:
        row = session.get(Token, token_id) if _ID.fullmatch(token_id) else None
        if row is None:
            raise _no_token(token_id)
        return TokenView.of(row)


def list_tokens(database: Database, *, limit: int, cursor: str | None) -> TokenPage:
    """Return up to `limit` tokens, newest first, from where `cursor` left off.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    query = select(Token).order_by(Token.created_at.desc(), Token.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(tuple_(Token.created_at, Token.id) < tuple_(*read_cursor(cursor)))
    with database.begin() as session:
        views = [TokenView.of(row) for row in session.scalars(query)]
    page = views[:limit]
    more = len(views) > limit
    return TokenPage(page, make_cursor(page[-1].created_at, page[-1].id) if more else None)


def change_token(database: Database, token_id: str, changes: TokenChanges) -> TokenView:
    """Change a token.

    Raises:
        NotFoundError: there is none with that id.
    """
    with database.begin() as session:
        row = session.scalar(select(Token).where(Token.id == _checked(token_id)).with_for_update())
        if row is None:
            raise _no_token(token_id)
        for name in changes.model_fields_set - {"metadata"}:
            setattr(row, name, getattr(changes, name))
        if "metadata" in changes.model_fields_set:
            row.meta = merged(row.meta, changes.metadata) if changes.metadata is not None else {}
        row.updated_at = func.clock_timestamp()
        session.flush()
        session.refresh(row)
        return TokenView.of(row)


def delete_token(database: Database, token_id: str) -> None:
    """Delete a token. Its jobs stay, and the reference files that they may still read.

    Raises:
        NotFoundError: there is none with that id.
    """
    statement = delete(Token).where(Token.id == _checked(token_id)).returning(Token.id)
    with database.begin() as session:
        if session.scalar(statement) is None:
            raise _no_token(token_id)


def merged(current: dict[str, JsonValue], changes: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Merge the first level of `changes` into `current`; null removes a key."""
    return {key: value for key, value in {**current, **changes}.items() if value is not None}


def _checked(token_id: str) -> str:
    if not _ID.fullmatch(token_id):
        raise _no_token(token_id)
    return token_id


def _no_token(token_id: str) -> NotFoundError:
    return NotFoundError(f"no token {token_id[:200]!r}")
