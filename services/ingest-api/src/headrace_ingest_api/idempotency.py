"""`Idempotency-Key`: the same request sent twice is done once and answered twice.

A key is claimed for a while, and the claim renewed while the request is worked on; so a crash
leaves a claim that runs out, never a key that is locked for ever. The claim's owner is the id
of the job that the request would make, and every later statement asks for it.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from headrace_common.contracts.lanes import Lane
from headrace_common.db.engine import Database
from headrace_common.db.models import IdempotencyKey
from headrace_common.errors import BadRequestError
from headrace_ingest_api.begin import Begin
from headrace_ingest_api.errors import KeyInUseError, KeyReusedError

#: A claim lasts so long unless renewed, which happens every five seconds: what a client that sends
#: its request again waits after a crash of ours. One that ran out too early costs no job: whoever
#: was slow finds the key taken before it accepts anything.
CLAIM_SECONDS: Final = 20.0
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
#: The row found by a refused claim may be gone at the next look; then the claim is free again.
_ATTEMPTS: Final = 3

_CLAIM: Final = text("""
INSERT INTO idempotency_keys AS k (scope, key, job_id, locked_until, created_at)
VALUES (:scope, :key, :owner, clock_timestamp() + make_interval(secs => :claim_seconds),
        clock_timestamp())
ON CONFLICT (scope, key) DO UPDATE SET
    job_id = excluded.job_id, locked_until = excluded.locked_until,
    created_at = excluded.created_at, fingerprint = NULL, status_code = NULL, response = NULL
WHERE CASE WHEN k.response IS NULL
    THEN k.locked_until < clock_timestamp()
    ELSE k.created_at < clock_timestamp() - make_interval(secs => :keep_seconds) END
RETURNING k.job_id
""")


@dataclass(frozen=True)
class Claim:
    """The right to work on a request; `owner` is the id of the job it makes."""

    scope: str
    key: str
    owner: str


@dataclass(frozen=True)
class StoredAnswer:
    """What the first request with a key was answered."""

    fingerprint: str
    response: dict[str, Any]

    def check(self, fingerprint: str) -> None:
        """Check that the repetition is one.

        Raises:
            KeyReusedError: the payload is another.
        """
        if fingerprint != self.fingerprint:
            raise KeyReusedError("this Idempotency-Key was used for another request")


def check_key(key: str) -> str:
    """Check the header's form.

    Raises:
        BadRequestError: not 1 to 255 printable ASCII characters.
    """
    if not _KEY.fullmatch(key):
        raise BadRequestError("Idempotency-Key takes 1 to 255 printable ASCII characters")
    return key


def fingerprint(*, token_id: str, lane: Lane, file_sha256: str, begin: Begin) -> str:
    """Return what is equal for two requests exactly if they ask for the same."""
    asked: list[Any] = [token_id, lane.value, file_sha256]
    if begin.is_later:  # else as the version before made it
        asked.append(begin.to_remember())
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class IdempotencyKeys:
    """The keys in the database."""

    def __init__(
        self, database: Database, *, keep: timedelta, claim_seconds: float = CLAIM_SECONDS
    ) -> None:
        """Remember answers for `keep`."""
        self._database = database
        self._keep_seconds = keep.total_seconds()
        self._claim_seconds = claim_seconds

    def claim(self, claim: Claim) -> StoredAnswer | None:
        """Take the key, or return what it stands for; None if it is ours now.

        Raises:
            KeyInUseError: another request with it is being worked on.
        """
        for _ in range(_ATTEMPTS):
            with self._database.begin() as session:
                if session.execute(_CLAIM, self._values(claim)).first():
                    return None
                row = session.get(IdempotencyKey, (claim.scope, claim.key))
                if row and row.response is not None and row.fingerprint:
                    return StoredAnswer(row.fingerprint, row.response)
                if row:
                    raise KeyInUseError(
                        "a request with this Idempotency-Key is being worked on",
                        retry_after=self._seconds_left(session, claim),
                    )
        raise KeyInUseError("this Idempotency-Key is contended", retry_after=1)

    def renew(self, claim: Claim) -> None:
        """Make the claim last from now on again."""
        until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, self._claim_seconds)
        with self._database.begin() as session:
            session.execute(update(IdempotencyKey).where(*_owned(claim)).values(locked_until=until))

    def complete_in(
        self, session: Session, claim: Claim, fingerprint: str, response: dict[str, Any]
    ) -> None:
        """Store the answer in the transaction that makes it true.

        Raises:
            KeyInUseError: the claim ran out and another request took the key.
        """
        done = session.execute(
            update(IdempotencyKey)
            .where(*_owned(claim))
            .values(fingerprint=fingerprint, status_code=200, response=response)
            .returning(IdempotencyKey.key)
        )
        if done.first() is None:
            raise KeyInUseError("another request took this Idempotency-Key over", retry_after=1)

    def release(self, claim: Claim) -> None:
        """Give a key back whose request failed; one that has its answer keeps it."""
        with self._database.begin() as session:
            session.execute(
                delete(IdempotencyKey).where(*_owned(claim), IdempotencyKey.response.is_(None))
            )

    def _values(self, claim: Claim) -> dict[str, Any]:
        return {
            "scope": claim.scope,
            "key": claim.key,
            "owner": claim.owner,
            "claim_seconds": self._claim_seconds,
            "keep_seconds": self._keep_seconds,
        }

    @staticmethod
    def _seconds_left(session: Session, claim: Claim) -> float:
        left = session.scalar(
            select(
                func.extract("epoch", IdempotencyKey.locked_until - func.clock_timestamp())
            ).where(IdempotencyKey.scope == claim.scope, IdempotencyKey.key == claim.key)
        )
        return max(1.0, math.ceil(float(left or 0)))


def _owned(claim: Claim) -> tuple[Any, ...]:
    return (
        IdempotencyKey.scope == claim.scope,
        IdempotencyKey.key == claim.key,
        IdempotencyKey.job_id == claim.owner,
    )
