"""Doing what a replay's plan says, so that doing it twice harms nothing.

What changes a row happens in the letter's own transaction. What tells others of a row follows its
commit: if that is lost, the sweeps tell again. What goes to a stream carries a mark, so that the
stream takes it once; what goes to a queue is recognised by whoever gets it twice.
"""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import redis
import structlog
from botocore.exceptions import BotoCoreError, ClientError
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from opentelemetry.trace import SpanKind
from sqlalchemy import update
from sqlalchemy.orm import Session

from headrace_common.broker import QueueUnavailableError, new_message, send
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import POISONED, DeadLetter, InboxReport, Job
from headrace_common.jobs import Change, JobStore
from headrace_common.jobs.restart import JobRestarts
from headrace_common.telemetry import continue_trace
from headrace_dispatcher.dead.from_stream import original_fields
from headrace_dispatcher.dead.letter import Kind, read_object, unpack_fields, unpack_text
from headrace_dispatcher.dead.plan import Action, Plan
from headrace_dispatcher.transports import Receipt, TransportError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = structlog.get_logger()

#: Longest wait for an analysis server's side to take a job.
_ASK_SECONDS: Final = 60.0
#: A mark outlives every repetition of what it marks.
_MARK_SECONDS: Final = 24 * 3600
#: KEYS: stream, mark. ARGV: seconds that the mark is kept, then names and values.
#: Answer: the new entry's id, or nil where the mark says that it was added before.
_ADD_ONCE: Final = """
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
"""

#: What is left to do after the commit.
After = Callable[[], object]
#: Sends a job to an analysis server; None where somebody else does.
Ask = Callable[[Job], "Future[Receipt] | None"]


class ReplayLaterError(Exception):
    """A server is away; the replay is put off."""


class CannotReplayError(Exception):
    """Nothing can be made of this letter."""


@dataclass(frozen=True)
class Doing:
    """One replay under way.

    Attributes:
        letter: locked.
        job: its job; locked where the plan changes it.
    """

    session: Session
    letter: DeadLetter
    plan: Plan
    job: Job | None

    @property
    def number(self) -> int:
        """Which replay of the letter it is, from 1; the same while it is repeated."""
        return self.letter.replays + 1


class Effects:
    """Does what plans say."""

    def __init__(
        self,
        store: JobStore,
        broker: RedisBroker,
        restarts: JobRestarts,
        ask: Ask,
        sqs: "SQSClient | None",
    ) -> None:
        """Make it.

        Args:
            store: changes jobs.
            broker: takes messages; its Redis has the streams.
            restarts: begins jobs anew.
            ask: sends a job to an analysis server.
            sqs: takes what died on the result queue.
        """
        self._store = store
        self._broker = broker
        self._restarts = restarts
        self._ask_job = ask
        self._sqs = sqs
        self._add_once = broker.client.register_script(_ADD_ONCE)
        self._by_action: dict[Action, Callable[[Doing], After | None]] = {
            Action.RESTART: self._restart,
            Action.REQUEUE: self._requeue,
            Action.ASK_AGAIN: self._ask_again,
            Action.SEND_AGAIN: self._send_again,
            Action.APPLY_AGAIN: self._apply_again,
            Action.OBSOLETE: lambda _doing: None,
        }

    def perform(self, doing: Doing) -> After | None:
        """Do what the plan says; what is returned is to be called after the commit.

        Raises:
            ReplayLaterError: a server is away.
            CannotReplayError: the letter cannot be replayed.
        """
        try:
            return self._by_action[doing.plan.action](doing)
        except (redis.RedisError, QueueUnavailableError, BotoCoreError, ClientError) as error:
            raise ReplayLaterError(str(error)[:300]) from error

    def _restart(self, doing: Doing) -> After:
        message = f"Begun anew: its dead letter was replayed by {doing.letter.state_by}"
        restart, outcome = self._restarts.begin_in(doing.session, _job(doing), message=message)

        def after() -> None:
            self._store.publish([outcome])
            self._restarts.send(restart)

        return after

    def _requeue(self, doing: Doing) -> After:
        job, message_id = _job(doing), str(uuid4())
        status, lane = JobStatus(job.status), Lane(job.lane)
        change = Change(
            job_id=job.id,
            to=JobStatus.QUEUED if status is JobStatus.QUEUING else status,
            message=f"Queued again: its dead letter was replayed by {doing.letter.state_by}",
            queue_message_id=message_id,
            restarts_stage=True,
        )
        outcome = self._store.apply_in(doing.session, [change])[0]

        def after() -> None:
            self._store.publish([outcome])
            with continue_trace(job.trace, "queue again", kind=SpanKind.INTERNAL, job_id=job.id):
                payload = DispatchJob(job_id=job.id)
                actor, queue = dispatch_actor(lane), lane.queue_name
                send(self._broker, new_message(actor, queue, payload, message_id=message_id))

        return after

    def _ask_again(self, doing: Doing) -> None:
        job = _job(doing)
        with continue_trace(job.trace, "ask again", kind=SpanKind.INTERNAL, job_id=job.id):
            try:
                asked = self._ask_job(job)
                if asked is not None:
                    asked.result(timeout=_ASK_SECONDS)
            except TransportError as error:
                if error.retryable:
                    raise ReplayLaterError(error.reason) from error
                raise CannotReplayError(error.reason) from error
            except FutureTimeoutError as error:
                raise ReplayLaterError("no analysis server's side has taken it yet") from error

    def _send_again(self, doing: Doing) -> None:
        match Kind(doing.letter.kind):
            case Kind.STREAM_ENTRY | Kind.STREAM_REPORT:
                self._add_to_stream(doing)
            case Kind.ANALYSIS_REPORT:
                self._send_to_sqs(doing)
            case _:
                send(self._broker, _message_again(doing.letter))

    def _add_to_stream(self, doing: Doing) -> None:
        letter = doing.letter
        fields = original_fields(unpack_fields(letter.payload))
        if letter.kind == Kind.STREAM_ENTRY:
            fields[b"attempt"] = b"0"
            if letter.job_id is not None:
                fields[b"jobId"] = letter.job_id.encode()
        flat = [part for pair in fields.items() for part in pair]
        # Beside the stream, so that a cluster keeps both in one slot.
        mark = f"{letter.queue}:replayed:{letter.id}:{doing.number}"
        self._add_once(keys=[letter.queue, mark], args=[_MARK_SECONDS, *flat])

    def _send_to_sqs(self, doing: Doing) -> None:
        if self._sqs is None:
            raise CannotReplayError("no SQS queue is configured here")
        payload = doing.letter.payload
        url, group = str(payload["queue_url"]), {}
        if url.endswith(".fifo"):
            system = payload.get("system_attributes", {})
            group = {
                "MessageGroupId": system.get("MessageGroupId", doing.letter.id),
                "MessageDeduplicationId": f"{doing.letter.id}-{doing.number}",
            }
        self._sqs.send_message(
            QueueUrl=url,
            MessageBody=unpack_text(payload["body"]).decode(),
            MessageAttributes=payload.get("attributes", {}),
            **group,
        )

    def _apply_again(self, doing: Doing) -> None:
        doing.session.execute(
            update(InboxReport)
            .where(
                InboxReport.id == int(doing.letter.source_id),
                InboxReport.applied_at.is_(None),
                InboxReport.outcome.startswith(POISONED, autoescape=True),
            )
            .values(attempts=0, outcome=None)
        )


def _job(doing: Doing) -> Job:
    if doing.job is None:
        raise CannotReplayError("there is no such job")
    return doing.job


def _message_again(letter: DeadLetter) -> "Message[Any]":
    """Make a dead message anew, without its retries."""
    told = read_object(unpack_text(letter.payload["message"]))
    try:
        return Message(
            queue_name=letter.queue,
            actor_name=str(told["actor_name"]),
            args=tuple(told["args"]),
            kwargs=dict(told["kwargs"]),
            options={"trace": told.get("options", {}).get("trace") or {}},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CannotReplayError("it is no Dramatiq message") from None
