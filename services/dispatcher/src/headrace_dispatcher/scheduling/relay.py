"""From the row of a firing to its message: what is `pending` is its own outbox entry.

The leader's thread reads and writes rows, over the connection of its term; another posts, because
Redis may be silent and the schedules do not wait for it. A row stays `pending` until Redis has its
message. Nothing is lost between the two, and the message's own mark lets it be sent once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_common.broker import QueueUnavailableError
from headrace_common.contracts.schedules import PerformFiring, TargetContract, target_contracts
from headrace_dispatcher.scheduling.limits import Slots
from headrace_dispatcher.scheduling.metrics import FIRINGS_SENT
from headrace_dispatcher.scheduling.posting import Letter, Posted, PostOffice

log = structlog.get_logger()

#: Most messages that are on their way at once.
_BATCH: Final = 500

_LIMITS: Final = text("SELECT target, max_running FROM target_limits")
_TAKEN: Final = text("""
SELECT target, target_key, count(*) AS firings FROM firings
WHERE finished_at IS NULL AND state IN ('sent', 'running')
    AND (target = ANY(:names) OR target_key = ANY(:names))
GROUP BY target, target_key
""")
_WAITING: Final = text("""
SELECT id, schedule_id, fire_at, target, target_key, params, tries, trace FROM firings
WHERE state = 'pending' AND target = ANY(:known)
    AND NOT (target = ANY(:full) OR target_key = ANY(:full))
ORDER BY due_at, id LIMIT :most
""")
_SAY_LIMIT: Final = text("""
UPDATE firings SET reason = 'limit'
WHERE state = 'pending' AND reason IS DISTINCT FROM 'limit'
    AND (target = ANY(:full) OR target_key = ANY(:full) OR id = ANY(:held))
""")
# A worker may have taken the message up already, or even be done with it.
_NOTE_SENT: Final = text("""
UPDATE firings SET message_id = sent.message_id, tries = sent.tries + 1,
    sent_at = clock_timestamp(),
    state = CASE WHEN firings.state = 'pending' THEN 'sent' ELSE firings.state END,
    reason = CASE WHEN firings.state = 'pending' THEN NULL ELSE firings.reason END
FROM unnest(CAST(:ids AS bigint[]), CAST(:message_ids AS text[]), CAST(:tries AS int[]))
    AS sent(id, message_id, tries)
WHERE firings.id = sent.id AND firings.tries = sent.tries
""")
_NOTE_DONE: Final = text("""
UPDATE firings SET message_id = done.message_id, tries = done.tries + 1, state = 'succeeded',
    reason = NULL, sent_at = clock_timestamp(), started_at = clock_timestamp(),
    finished_at = clock_timestamp()
FROM unnest(CAST(:ids AS bigint[]), CAST(:message_ids AS text[]), CAST(:tries AS int[]))
    AS done(id, message_id, tries)
WHERE firings.id = done.id AND firings.state = 'pending'
""")


class Relay:
    """Has the messages of one term sent. For the leader's thread."""

    def __init__(
        self,
        office: PostOffice,
        errands: Executor,
        *,
        epoch: int,
        wake: Callable[[], None],
    ) -> None:
        """Make it.

        Args:
            office: where messages are posted.
            errands: posts them, beside the leader's thread.
            epoch: of the term.
            wake: called from another thread when there is something to note.
        """
        self._office = office
        self._epoch = epoch
        self._wake = wake
        self._errands = errands
        self._is_open = False
        self._letters: list[Letter] = []
        self._posted: Future[list[Posted]] | None = None
        self._look = True

    def look_again(self) -> None:
        """Look at the next step for what is to be sent."""
        self._look = True

    def has_work(self) -> bool:
        """Whether a step would do something now."""
        if self._posted is not None:
            return self._posted.done()
        return self._look

    def step(self, session: Session) -> None:
        """Note what was sent, and have the next be sent, in a transaction of the leader."""
        if self._posted is not None:
            if not self._posted.done():
                return
            self._note(session, self._posted)
            self._posted = None
        if self._look:
            self._look = False
            self._letters = self._choose(session)

    def send(self) -> None:
        """Send what the last step chose, once its transaction is committed."""
        if self._letters and self._posted is None:
            self._posted = self._errands.submit(self._post, self._letters)
            self._posted.add_done_callback(lambda _: self._wake())

    def _post(self, letters: Sequence[Letter]) -> list[Posted]:
        if not self._is_open:
            self._office.open(self._epoch)
            self._is_open = True
        return self._office.post(letters, epoch=self._epoch)

    def _note(self, session: Session, future: "Future[list[Posted]]") -> None:
        letters, self._letters = self._letters, []
        try:
            posted = future.result()
        except QueueUnavailableError as error:
            # The next round looks again.
            FIRINGS_SENT.labels(outcome="failed").inc(len(letters))
            log.warning("scheduler.firings_not_sent", firings=len(letters), error=str(error))
            return
        for outcome in posted:
            FIRINGS_SENT.labels(outcome=outcome.name.lower()).inc()
        sent = [
            letter
            for letter, outcome in zip(letters, posted, strict=True)
            if outcome is not Posted.DEPOSED
        ]
        if len(sent) < len(letters):
            # This transaction has found that the term goes on: Redis has another's number, of a
            # database that was replaced for instance.
            log.warning("scheduler.epoch_unknown_to_redis", epoch=self._epoch)
            self._is_open = False
            self._look = True
        for statement, tracked in ((_NOTE_SENT, True), (_NOTE_DONE, False)):
            noted = [letter for letter in sent if letter.is_tracked is tracked]
            if noted:
                session.execute(statement, _columns(noted))

    def _choose(self, session: Session) -> list[Letter]:
        # Another version may know more targets: theirs wait for it to lead.
        contracts = target_contracts()
        slots = _slots(session)
        full = slots.full()
        letters: list[Letter] = []
        held: list[int] = []
        asked = {"known": list(contracts), "full": full, "most": _BATCH}
        for row in session.execute(_WAITING, asked):
            if slots.take(row.target, row.target_key):
                letters.append(_letter(row, contracts[row.target]))
            else:
                held.append(row.id)
        if full or held:
            session.execute(_SAY_LIMIT, {"full": full, "held": held})
        # There may be more, behind those that are held too.
        self._look = len(letters) + len(held) == _BATCH
        return letters


def _slots(session: Session) -> Slots:
    limits = {row.target: row.max_running for row in session.execute(_LIMITS)}
    if not limits:
        return Slots({}, [])
    taken = session.execute(_TAKEN, {"names": list(limits)})
    return Slots(limits, [(row.target, row.target_key, row.firings) for row in taken])


def _letter(row: Any, contract: TargetContract) -> Letter:
    fire_at: datetime = row.fire_at
    return Letter(
        firing_id=row.id,
        schedule_id=row.schedule_id,
        fire_at=fire_at,
        tries=row.tries,
        queue=contract.queue,
        actor=contract.actor,
        is_tracked=contract.tracked,
        kwargs=(
            PerformFiring(firing_id=row.id).model_dump(mode="json")
            if contract.tracked
            else row.params
        ),
        trace=row.trace,
    )


def _columns(letters: Sequence[Letter]) -> dict[str, list[Any]]:
    return {
        "ids": [letter.firing_id for letter in letters],
        "message_ids": [letter.message_id for letter in letters],
        "tries": [letter.tries for letter in letters],
    }
