"""The roll-out as this process knows it: read anew every second, kept while Postgres is away."""

from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from headrace_common.db import Database
from headrace_common.repeat import Repeater
from headrace_common.telemetry.metrics import from_zero
from headrace_dispatcher.rollout import rows
from headrace_dispatcher.rollout.state import RolloutState
from headrace_dispatcher.transports import TransportName

log = structlog.get_logger()

#: A change works in every replica within two of these.
_REFRESH_SECONDS: Final = 1.0

_SQS: Final = Gauge(
    "headrace_rollout_sqs_ratio",
    "Share of new jobs that goes over SQS, 0 to 1, as this process knows it",
)
_SHADOW: Final = Gauge(
    "headrace_rollout_shadow_ratio", "Share of jobs that is sent to both sides, 0 to 1"
)
_VERSION: Final = Gauge("headrace_rollout_version", "Version that this process works by")
_ROLLBACKS: Final = Counter(
    "headrace_rollbacks_total", "Times that all jobs were taken from a side", ["side", "by"]
)
from_zero(_ROLLBACKS, TransportName, ("operator", "guard"))


class CurrentRollout:
    """What is set now. Reading it costs nothing; safe to use from any thread."""

    def __init__(self, database: Database, default: RolloutState) -> None:
        """Begin with `default`, the environment's, until the row was read."""
        self._database = database
        self._default = default
        self._state = default
        self._repeater = Repeater("rollout", self._step)

    @property
    def state(self) -> RolloutState:
        """What was known last."""
        return self._state

    def start(self) -> None:
        """Read the row, if it can be had at once, and again every second."""
        self._repeater.start()

    def stop(self) -> None:
        """Read it no more."""
        self._repeater.ask_to_stop()
        self._repeater.join(timeout_seconds=5)

    def check(self) -> None:
        """Check that the thread lives.

        Raises:
            RuntimeError: it does not.
        """
        self._repeater.check_alive()

    def refresh(self) -> RolloutState:
        """Read the row now.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Postgres is away; what was known last stays.
        """
        with self._database.begin() as session:
            state = rows.read(session, self._default)
        return self.know(state)

    def know(self, state: RolloutState) -> RolloutState:
        """Take note of a state that was read or written.

        An older version is believed too: a database that was restored from a backup has one. What
        a slow read undoes for a moment, the next one puts right.
        """
        if state.version != self._state.version:
            log.info(
                "rollout.changed",
                sqs_percent=state.sqs_percent,
                shadow_percent=state.shadow_percent,
                version=state.version,
                by=state.changed_by,
                reason=state.reason,
            )
        self._state = state
        _SQS.set(state.sqs_percent / 100)
        _SHADOW.set(state.shadow_percent / 100)
        _VERSION.set(state.version)
        return state

    def _step(self) -> float:
        self.refresh()
        return _REFRESH_SECONDS


def count_rollback(side: str, *, by: str) -> None:
    """Count a roll-back in this process's metrics.

    Args:
        side: that all jobs were taken from.
        by: `operator` or `guard`.
    """
    _ROLLBACKS.labels(side=side, by=by).inc()
