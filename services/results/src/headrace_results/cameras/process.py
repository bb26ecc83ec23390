"""The camera path: a reader for each stream, and the house-keeping."""

from datetime import timedelta
from typing import Final

import redis
from pydantic import JsonValue

from headrace_common.chores import ShiftChore
from headrace_common.contracts import JobStatus
from headrace_common.contracts.cctv import REPORTS_SUFFIX, RESULTS_GROUP
from headrace_common.contracts.schedules import (
    RECOVER_CAMERA_JOBS,
    TRIM_STREAMS,
    TargetContract,
)
from headrace_common.db import Database
from headrace_common.jobs import JobStore
from headrace_common.redis_client import reading_redis_client
from headrace_common.repeat import Repeater
from headrace_common.shifts import Shift
from headrace_results.actors import ReportQueue
from headrace_results.cameras.ended import (
    CANCELLED_HISTORY,
    SETTLED_HISTORY,
    EndedJobs,
    Suspects,
    Walk,
    tell_cancelled,
    tell_settled,
)
from headrace_results.cameras.entry_intake import EntryIntake
from headrace_results.cameras.groups import GroupReader, Take
from headrace_results.cameras.recovery import LostLimits
from headrace_results.cameras.report_intake import ReportIntake
from headrace_results.cameras.sweep import CameraSweep
from headrace_results.cameras.trimming import Trimming
from headrace_results.cameras.whereabouts import Whereabouts
from headrace_results.settings import ResultsSettings

#: Of one read; a stop waits for the one under way.
_WAIT_SECONDS: Final = 2.0


class Cameras:
    """Puts the parts together."""

    def __init__(
        self,
        settings: ResultsSettings,
        client: redis.Redis,
        database: Database,
        store: JobStore,
        queue: ReportQueue,
    ) -> None:
        """Make them; nothing connects before the repeaters are started."""
        self._settings = settings
        self._readers: list[redis.Redis] = []
        stream = settings.redis_stream
        whereabouts = Whereabouts(client, stream=stream, workers=settings.redis_group)
        entries = EntryIntake(client, database, store, whereabouts, stream=stream)
        reports = ReportIntake(client, database, store, queue, stream=stream)
        self._sweep = CameraSweep(
            client,
            database,
            store,
            whereabouts,
            stream=stream,
            limits=LostLimits(
                lost_after=timedelta(seconds=settings.cctv_lost_after_seconds),
                unqueued_after=timedelta(seconds=settings.cctv_unqueued_after_seconds),
                max_requeues=settings.cctv_max_requeues,
            ),
        )
        self._cancelled, self._settled = self._ended(client, database)
        self._suspects = Suspects(client, database, tell_settled(client, stream), stream=stream)
        self._trimming = Trimming(client, stream=stream, workers=settings.redis_group)
        self.repeaters = [
            Repeater("camera_entries", self._reader(stream, entries.take).step),
            Repeater("camera_reports", self._reader(stream + REPORTS_SUFFIX, reports.take).step),
        ]

    def chores(self) -> dict[TargetContract, ShiftChore]:
        """Return the house-keeping of camera jobs."""
        return {RECOVER_CAMERA_JOBS: self._recover, TRIM_STREAMS: self._trimming.run}

    def close(self) -> None:
        """Close the connections of the readers, whose threads have ended."""
        for client in self._readers:
            client.close()

    def _recover(self, shift: Shift) -> dict[str, JsonValue]:
        # One after the other, so that they take no more connections than one of them.
        return {
            **self._sweep.run(shift),
            "cancelled_told": self._cancelled.run(shift),
            "settled_told": self._settled.run(shift),
            "suspects": self._suspects.run(shift),
        }

    def _ended(self, client: redis.Redis, database: Database) -> list[EndedJobs]:
        """Return what tells Redis of jobs that were cancelled, and of all that have ended."""
        settings, stream = self._settings, self._settings.redis_stream
        cancelled = Walk(
            name="cancelled",
            statuses=frozenset({JobStatus.CANCELLED}),
            after=timedelta(0),
            history=CANCELLED_HISTORY,
        )
        settled = Walk(
            name="settled",
            statuses=frozenset(status for status in JobStatus if status.is_final),
            after=timedelta(seconds=settings.cctv_remains_after_seconds),
            history=SETTLED_HISTORY,
        )
        return [
            EndedJobs(client, database, walk, tell(client, stream), stream=stream)
            for walk, tell in ((cancelled, tell_cancelled), (settled, tell_settled))
        ]

    def _reader(self, stream: str, take: Take) -> GroupReader:
        client = reading_redis_client(self._settings, wait_seconds=_WAIT_SECONDS)
        self._readers.append(client)
        return GroupReader(
            client,
            take,
            stream=stream,
            group=RESULTS_GROUP,
            wait_seconds=_WAIT_SECONDS,
            claim_seconds=self._settings.cctv_claim_seconds,
        )
