"""Expressions of cron."""

from dataclasses import dataclass
from typing import Self

from cronsim import CronSim, CronSimError

_NAMED = {
    "@HOURLY": "0 * * * *",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@WEEKLY": "0 0 * * 0",
    "@MONTHLY": "0 0 1 * *",
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
}


@dataclass(frozen=True)
class CronExpression:
    """An expression that was read."""

    text: str

    @classmethod
    def parse(cls, expression: str) -> Self:
        """Read an expression.

        Raises:
            ValueError: it says nothing that could come to pass; the message tells why.
        """
        from datetime import datetime  # noqa: PLC0415

        text = _NAMED.get(expression.strip().upper(), expression)
        try:
            next(CronSim(text, datetime(2026, 1, 1)))  # noqa: DTZ001
        except CronSimError as error:
            raise ValueError(str(error)) from None
        except StopIteration:
            raise ValueError("never fires") from None
        return cls(text)
