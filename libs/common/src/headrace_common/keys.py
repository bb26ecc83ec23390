"""API keys: bearer credentials with scopes, stored as hashes only.

A key reads `hr_<id>_<secret>`. The id is public and finds the row; the secret has 256 random
bits, so that one round of SHA-256 is enough to store it safely.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from headrace_common.db.models import ApiKey
from headrace_common.errors import ForbiddenError, NotFoundError, UnauthorizedError
from headrace_common.scopes import Scope

__all__ = [
    "CreatedKey",
    "Principal",
    "Scope",
    "authenticate",
    "create",
    "list_keys",
    "revoke",
]

_PREFIX: Final = "hr"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
#: `last_used_at` is written at most this often, so that reading stays cheap.
_USE_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Principal:
    """Who makes a request."""

    key_id: str | None
    scopes: frozenset[str]

    def require(self, scope: Scope) -> None:
        """Check that this caller may do what `scope` names; `admin` may do all.

        Raises:
            ForbiddenError: it may not.
        """
        if not {scope.value, Scope.ADMIN.value} & self.scopes:
            raise ForbiddenError(f"this needs an API key with the scope {scope.value!r}")


@dataclass(frozen=True)
class CreatedKey:
    """A new key; `secret_text` is shown this once and never stored."""

    id: str
    secret_text: str


def create(session: Session, *, name: str, scopes: Collection[Scope]) -> CreatedKey:
    """Create a key and return it, the only time that it can be read."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    session.add(ApiKey(id=key_id, name=name, secret_hash=_hash(secret), scopes=sorted(set(scopes))))
    return CreatedKey(key_id, f"{_PREFIX}_{key_id}_{secret}")


def authenticate(session: Session, text: str) -> Principal:
    """Find whose key `text` is.

    Raises:
        UnauthorizedError: nobody's, or a revoked one; which of both is not told.
    """
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    row = session.get(ApiKey, key_id) if prefix == _PREFIX and secret else None
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(secret)) or row.revoked_at:
        raise UnauthorizedError("the API key is not valid")
    now = datetime.now(UTC)
    if row.last_used_at is None or now - row.last_used_at > _USE_NOTED_EVERY:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))
    return Principal(key_id, frozenset(row.scopes))


def list_keys(session: Session) -> list[ApiKey]:
    """Return every key, oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))


def revoke(session: Session, key_id: str) -> ApiKey:
    """End a key at once; ending it again changes nothing.

    Raises:
        NotFoundError: there is no such key.
    """
    row = session.get(ApiKey, key_id)
    if row is None:
        raise NotFoundError(f"no API key {key_id!r}")
    row.revoked_at = row.revoked_at or datetime.now(UTC)
    return row


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
