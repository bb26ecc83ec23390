"""The dead letters as one part of the dispatcher: what collects them, and what replays them."""

from typing import Final

from dramatiq.brokers.redis import RedisBroker

from headrace_common.contracts.cctv import DEAD_REPORTS_SUFFIX, REPORTS_SUFFIX
from headrace_common.db import Database
from headrace_common.jobs import JobStore
from headrace_common.jobs.restart import JobRestarts
from headrace_common.redis_client import redis_client
from headrace_common.repeat import Repeater
from headrace_common.sqs import sqs_client
from headrace_dispatcher.dead.collector import Collector, LetterSource
from headrace_dispatcher.dead.effects import Ask, Effects
from headrace_dispatcher.dead.from_dramatiq import DramatiqLetters
from headrace_dispatcher.dead.from_inbox import InboxLetters
from headrace_dispatcher.dead.from_sqs import SqsLetters, queues_of
from headrace_dispatcher.dead.from_stream import StreamLetters
from headrace_dispatcher.dead.keeping import keeper
from headrace_dispatcher.dead.letter import Source
from headrace_dispatcher.dead.replayer import Replayer
from headrace_dispatcher.dead.settings import DeadLetterSettings
from headrace_dispatcher.dead.tidying import Tidying

#: Of SQS; one queue is polled after the other, so that a stop waits for some of these.
_POLL_SECONDS: Final = 1
#: SQS answers a poll of a second well within; a stop waits for it.
_READ_SECONDS: Final = 10.0


class DeadLetters:
    """Collects and replays. Every replica does, and none waits for another."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        broker: RedisBroker,
        settings: DeadLetterSettings,
        ask: Ask,
    ) -> None:
        """Put the parts together; nothing runs before its repeaters do.

        Args:
            database: where jobs and letters are.
            store: changes jobs.
            broker: its Redis has dead messages and streams.
            settings: where everything is.
            ask: sends a job to an analysis server.
        """
        queues = queues_of(settings)
        self._redis = redis_client(settings)
        self._sqs = sqs_client(settings, read_timeout_seconds=_READ_SECONDS) if queues else None
        keep = keeper(database)
        stream = settings.redis_stream
        sources: list[LetterSource] = [
            DramatiqLetters(self._redis, keep, namespace=settings.dramatiq_namespace),
            StreamLetters(
                self._redis,
                keep,
                source=Source.STREAM,
                stream=stream,
                dead_stream=settings.redis_dlq_stream,
            ),
            StreamLetters(
                self._redis,
                keep,
                source=Source.REPORTS,
                stream=f"{stream}{REPORTS_SUFFIX}",
                dead_stream=f"{stream}{DEAD_REPORTS_SUFFIX}",
            ),
            InboxLetters(database),
        ]
        if self._sqs is not None:
            wait = int(min(_POLL_SECONDS, settings.dead_letter_interval_seconds))
            sources += [SqsLetters(self._sqs, keep, queue, wait_seconds=wait) for queue in queues]
        self.collector = Collector(
            database,
            sources,
            Tidying(database, self._redis),
            interval_seconds=settings.dead_letter_interval_seconds,
        )
        restarts = JobRestarts(database, store, broker, stream=stream)
        effects = Effects(store, broker, restarts, ask, self._sqs)
        self.replayer = Replayer(database, effects)
        #: To be run by the process.
        self.repeaters = [
            Repeater("dead_letters", self.collector.step),
            Repeater("dead_replays", self.replayer.step),
        ]

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        if self._sqs is not None:
            self._sqs.close()
