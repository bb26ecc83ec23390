"""From the row of a firing to its message: what is `pending` is its own outbox entry.

The leader's thread reads and writes rows, over the connection of its term; another posts, because
Redis may be silent and the schedules do not wait for it. A row stays `pending` until Redis has its
message. Nothing is lost between the two, and the message's own mark lets it be sent once.
"""

import time
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
#: Most firings that are told at once to be held back by a limit, and how much longer than that took
#: the others wait for it: there may be many, and it is for people only.
_MOST_SAID: Final = 5_000
_SAY_SELDOM: Final = 20

_LIMITS: Final = text("SELECT target, max_running FROM target_limits")
_TAKEN: Final = text("""
SELECT target, target_key, count(*) AS firings FROM firings
WHERE finished_at IS NULL AND state IN ('sent', 'running')
    AND (target = ANY(:names) OR target_key = ANY(:names))
GROUP BY target, target_key
""")
# What the next firing of its schedule ends, and so gives its place to. House-keeping that runs is
# left to its end.
_GIVES_WAY: Final = text("""
SELECT schedule_id, target, target_key, min(id) AS id FROM firings
WHERE finished_at IS NULL AND overlap = 'cancel'
    AND (target = ANY(:full) OR target_key = ANY(:full))
    AND (state = 'sent' OR (state = 'running' AND job_id IS NOT NULL))
GROUP BY schedule_id, target, target_key
""")
_WAITING: Final = text("""
SELECT id, schedule_id, fire_at, target, target_key, params, tries, trace FROM firings
WHERE state = 'pending' AND target = ANY(:known) AND id <> ALL(:unnoted)
    AND (NOT (target = ANY(:full) OR target_key = ANY(:full))
        OR (overlap = 'cancel' AND schedule_id = ANY(:ending)))
ORDER BY due_at, id LIMIT :most
""")
# The leader waits for no row of a firing: whoever has it locked may be frozen, and the schedules of
# all others would stand still meanwhile. What is locked now is dealt with later.
_SAY_LIMIT: Final = text("""
WITH free AS (
    SELECT id FROM firings
    WHERE state = 'pending' AND reason IS DISTINCT FROM 'limit'
        AND (target = ANY(:full) OR target_key = ANY(:full) OR id = ANY(:held))
    LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE firings SET reason = 'limit' FROM free WHERE firings.id = free.id
""")
# A worker may have taken the message up already, or even be done with it.
_NOTE_SENT: Final = text("""
WITH sent AS (
    SELECT firings.id, told.message_id
    FROM unnest(CAST(:ids AS bigint[]), CAST(:message_ids AS text[]), CAST(:tries AS int[]))
        AS told(id, message_id, tries)
    JOIN firings ON firings.id = told.id AND firings.tries = told.tries
    FOR UPDATE OF firings SKIP LOCKED
)
UPDATE firings SET message_id = sent.message_id, tries = tries + 1, sent_at = clock_timestamp(),
    state = CASE WHEN state = 'pending' THEN 'sent' ELSE state END,
    reason = CASE WHEN state = 'pending' THEN NULL ELSE reason END
FROM sent WHERE firings.id = sent.id
""")
_NOTE_DONE: Final = text("""
WITH done AS (
    SELECT firings.id, told.message_id
    FROM unnest(CAST(:ids AS bigint[]), CAST(:message_ids AS text[]), CAST(:tries AS int[]))
        AS told(id, message_id, tries)
    JOIN firings ON firings.id = told.id AND firings.tries = told.tries
    WHERE firings.state = 'pending' FOR UPDATE OF firings SKIP LOCKED
)
UPDATE firings SET message_id = done.message_id, tries = tries + 1, state = 'succeeded',
    reason = NULL, sent_at = clock_timestamp(), started_at = clock_timestamp(),
    finished_at = clock_timestamp()
FROM done WHERE firings.id = done.id
""")
_NOT_NOTED: Final = text("""
SELECT firings.id FROM unnest(CAST(:ids AS bigint[]), CAST(:tries AS int[])) AS told(id, tries)
JOIN firings ON firings.id = told.id AND firings.tries = told.tries
WHERE firings.finished_at IS NULL
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
        #: Sent, but nobody has been able to note it yet; by the ids of the firings.
        self._unnoted: dict[int, Letter] = {}
        self._say_at = time.monotonic()
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
            self._take(self._posted)
            self._posted = None
        if self._unnoted:
            self._note(session)
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

    def _take(self, future: "Future[list[Posted]]") -> None:
        """Take what came of the letters that were posted."""
        letters, self._letters = self._letters, []
        try:
            posted = future.result()
        except QueueUnavailableError as error:
            # The next round looks again, not this one: it would find Redis as it is.
            self._look = False
            FIRINGS_SENT.labels(outcome="failed").inc(len(letters))
            log.warning("scheduler.firings_not_sent", firings=len(letters), error=str(error))
            return
        for outcome in posted:
            FIRINGS_SENT.labels(outcome=outcome.name.lower()).inc()
        if Posted.DEPOSED in posted:
            # This transaction has found that the term goes on: Redis has another's number, of a
            # database that was replaced for instance. The next round says ours again.
            log.warning("scheduler.epoch_unknown_to_redis", epoch=self._epoch)
            self._is_open = self._look = False
        self._unnoted |= {
            letter.firing_id: letter
            for letter, outcome in zip(letters, posted, strict=True)
            if outcome is not Posted.DEPOSED
        }

    def _note(self, session: Session) -> None:
        """Note what was sent, but for rows that somebody has locked: that is tried again."""
        letters = list(self._unnoted.values())
        for statement, tracked in ((_NOTE_SENT, True), (_NOTE_DONE, False)):
            told = [letter for letter in letters if letter.is_tracked is tracked]
            if told:
                session.execute(statement, _columns(told))
        columns = _columns(letters)
        left = session.scalars(_NOT_NOTED, {name: columns[name] for name in ("ids", "tries")})
        self._unnoted = {firing_id: self._unnoted[firing_id] for firing_id in left}

    def _choose(self, session: Session) -> list[Letter]:
        # Another version may know more targets: theirs wait for it to lead.
        contracts = target_contracts()
        slots = _slots(session)
        # Their rows may still say that they wait.
        for letter in self._unnoted.values():
            slots.take(letter.target, letter.target_key)
        full = slots.full()
        ending = _ending(session, full)
        letters: list[Letter] = []
        held: list[int] = []
        asked = {
            "known": list(contracts),
            "full": full,
            "ending": sorted({schedule_id for schedule_id, _, _ in ending}),
            "unnoted": list(self._unnoted),
            "most": _BATCH,
        }
        for row in session.execute(_WAITING, asked):
            earlier = ending.get((row.schedule_id, row.target, row.target_key), row.id)
            if earlier < row.id or slots.take(row.target, row.target_key):
                letters.append(_letter(row, contracts[row.target]))
            else:
                held.append(row.id)
        self._say_limit(session, full, held)
        # There may be more, behind those that are held too.
        self._look = len(letters) + len(held) == _BATCH
        return letters

    def _say_limit(self, session: Session, full: list[str], held: list[int]) -> None:
        """Say of firings that a limit holds them back."""
        began = time.monotonic()
        if not (full or held) or began < self._say_at:
            return
        session.execute(_SAY_LIMIT, {"full": full, "held": held, "most": _MOST_SAID})
        now = time.monotonic()
        self._say_at = now + _SAY_SELDOM * (now - began)


def _slots(session: Session) -> Slots:
    limits = {row.target: row.max_running for row in session.execute(_LIMITS)}
    if not limits:
        return Slots({}, [])
    taken = session.execute(_TAKEN, {"names": list(limits)})
    return Slots(limits, [(row.target, row.target_key, row.firings) for row in taken])


def _ending(session: Session, full: list[str]) -> dict[tuple[str, str, str], int]:
    """Return the first firing that ends when the next of its schedule begins, at full targets.

    By schedule, target and key.
    """
    if not full:
        return {}
    rows = session.execute(_GIVES_WAY, {"full": full})
    return {(row.schedule_id, row.target, row.target_key): row.id for row in rows}


def _letter(row: Any, contract: TargetContract) -> Letter:
    fire_at: datetime = row.fire_at
    return Letter(
        firing_id=row.id,
        schedule_id=row.schedule_id,
        fire_at=fire_at,
        target=row.target,
        target_key=row.target_key,
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
