"""The sweep: reports whose message was lost, or whose applying failed, are applied here.

It applies them itself instead of sending them again. So a report is applied while Redis is
away, and a long queue never grows by the repetition of what already waits in it.
"""

from typing import Final

import structlog

from headrace_common.db import Database
from headrace_results import inbox
from headrace_results.applier import ReportApplier
from headrace_results.metrics import REPORTS_UNAPPLIED

log = structlog.get_logger()

_BATCH: Final = 100


class Sweep:
    """Finds reports that wait too long. Every replica sweeps; none waits for another's locks."""

    def __init__(
        self,
        database: Database,
        applier: ReportApplier,
        *,
        retry_seconds: float,
        interval_seconds: float,
    ) -> None:
        """Make it.

        Args:
            database: where the inbox is.
            applier: applies what is found.
            retry_seconds: age at which a report is found; doubles with each attempt.
            interval_seconds: pause between two sweeps.
        """
        self._database = database
        self._applier = applier
        self._retry_seconds = retry_seconds
        self._interval_seconds = interval_seconds

    def step(self) -> float:
        """Apply one batch of what is due.

        Returns:
            Seconds until the next step: none while there is more.
        """
        with self._database.begin() as session:
            ids = inbox.due(session, retry_seconds=self._retry_seconds, limit=_BATCH)
            waiting, poisoned = inbox.unapplied_counts(session)
        REPORTS_UNAPPLIED.labels(state="waiting").set(waiting)
        REPORTS_UNAPPLIED.labels(state="poisoned").set(poisoned)
        for inbox_id in ids:
            self._applier.apply(inbox_id)
        if ids:
            log.info("sweep.done", reports=len(ids))
        return 0.0 if len(ids) == _BATCH else self._interval_seconds
