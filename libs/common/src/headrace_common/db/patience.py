"""Connections that give up a server which is silent.

A server that is frozen keeps its connections open, and its kernel acknowledges what is sent to
them: neither libpq's time-outs nor TCP's end the wait. The server's own time-out for statements
ends it only where the server runs.
"""

from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

#: What a server that is alive may be late by.
_GRACE_SECONDS: Final = 2.0
#: Private, and there is no other name for what `wait` says that it raises.
_SILENT: Final = psycopg.errors._WaitTimeout  # noqa: SLF001


class ImpatientConnection(psycopg.Connection[Any]):
    """Waits for each answer for a time."""

    #: Outside of transactions only signs of life are asked for.
    sign_of_life_seconds: float = 5.0
    statement_seconds: float = 60.0

    def set_patience(self, *, sign_of_life_seconds: float, statement_seconds: float) -> None:
        """Say how long answers may take."""
        self.sign_of_life_seconds = sign_of_life_seconds
        self.statement_seconds = statement_seconds + _GRACE_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: it did not come in time; the connection is closed.
        """
        usual = self.sign_of_life_seconds if self.autocommit else self.statement_seconds
        try:
            return super().wait(gen, interval, usual if timeout is None else timeout)
        except _SILENT:
            # What comes later would be taken for the answer to another question.
            self.pgconn.finish()
            raise psycopg.OperationalError("the database server is silent") from None
