"""The phases of a run, each mainly of one kind of work, and the proof that is not fitted."""

import time
from collections.abc import Sequence
from typing import Final

from headrace_capacity.measurement import Phase, Service, Work
from headrace_capacity.measuring.driving import Driver, Watched
from headrace_capacity.measuring.meters import memory_mib
from headrace_capacity.measuring.stand import Stand
from headrace_common.contracts.cctv import DEFAULT_STREAM
from headrace_common.contracts.lanes import Lane
from headrace_local.waiting import wait_until

_LANES: Final = [lane.queue_name for lane in Lane]
_SMALL_MIB: Final = 0.02
_LARGE_MIB: Final = 16.0
#: So slow that nothing queues, and that batches are as small as they mostly are.
_PACE: Final = 12.0
_IDLE_SECONDS: Final = 10.0
_LONG_SECONDS: Final = 10.0
_SHORT_SECONDS: Final = 2.0
_ENDED_FIRINGS: Final = (
    "SELECT count(*) FROM firings WHERE target = 'audio.reanalyse' AND finished_at IS NOT NULL"
)
_DUE: Final = (
    "UPDATE jobs SET retain_until = now() - interval '1 hour' WHERE id IN (SELECT id FROM jobs "
    "WHERE kind = 'audio_analysis' AND finished_at IS NOT NULL ORDER BY id LIMIT {count})"
)


class Phases:
    """Runs them, and keeps what they found."""

    def __init__(self, stand: Stand, driver: Driver, *, hls: str, scale: float) -> None:
        """Make it.

        Args:
            stand: where it is measured.
            driver: makes the work.
            hls: a film of 1280x720 at 25 frames/s.
            scale: how much of each work is done; less is quicker, and less exact.
        """
        self._scale = scale
        self._stand = stand
        self._driver = driver
        self._hls = hls
        self.idle: list[Phase] = []
        self.work: list[Phase] = []
        self.burst: list[Phase] = []
        self.proof: list[Phase] = []
        self.waiting_bytes = 0.0
        self.waiting_proof_bytes = 0.0
        self.entry_bytes = 0.0
        self.stream_mib = 0.0
        self.memory_mib: dict[Service, float] = {}
        self.connections: dict[Service, int] = {}

    def warm_up(self) -> None:
        """Do a little of everything: the first of a kind opens connections and loads modules."""
        driver = self._driver
        driver.upload(16, mib=_SMALL_MIB)
        driver.look(2, hls=self._hls, seconds=_SHORT_SECONDS)
        driver.roll_out(0)
        jobs = driver.upload(16, mib=_SMALL_MIB, reports=1, seconds=0.1)
        driver.roll_out(100)
        driver.watch(jobs[:1], streams=4, seconds=1)
        driver.finish()

    def audio(self) -> None:
        """Run the phases of recordings."""
        stand, driver = self._stand, self._driver
        with stand.phase("idle", self.idle):
            time.sleep(_IDLE_SECONDS)
        held = self._held_uploads(self._count(120))
        with stand.phase("heartbeats", self.work, {Work.HEARTBEAT: len(held)}):
            driver.heartbeats(held)
        with stand.phase("burst", self.burst, {Work.JOB_SQS: len(held)}):
            driver.pause(names=_LANES, on=False)
            driver.finish()
        count = self._count(150)
        with stand.phase("sqs", self.work, _jobs(count, Work.JOB_SQS)):
            driver.upload(count, mib=_SMALL_MIB, rate=_PACE)
            driver.finish()
        driver.roll_out(0)
        count = self._count(100)
        with stand.phase("http", self.work, _jobs(count, Work.JOB_HTTP)):
            driver.upload(count, mib=_SMALL_MIB, rate=_PACE)
            driver.finish()
        driver.roll_out(100)
        with stand.phase("large", self.work, _jobs(8, Work.JOB_SQS, mib=_LARGE_MIB)):
            driver.upload(8, mib=_LARGE_MIB, threads=2)
            driver.finish()
        count = self._count(50)
        with stand.phase("progress", self.work, _jobs(count, Work.JOB_SQS)) as work:
            before = self._reports()
            driver.upload(count, mib=_SMALL_MIB, reports=5, seconds=1, rate=_PACE)
            driver.finish()
            work |= {Work.PROGRESS: self._reports() - before - count}

    def _held_uploads(self, count: int) -> list[str]:
        self._driver.pause(names=_LANES, on=True)
        work = {Work.UPLOAD: count, Work.UPLOAD_MIB: count * _SMALL_MIB}
        with self._stand.phase("uploads", self.work, work):
            held = self._driver.upload(count, mib=_SMALL_MIB, rate=2 * _PACE)
        self.waiting_bytes = self._stand.meters.queue_bytes(Lane.NORMAL.queue_name) / count
        return held

    def streams(self) -> None:
        """Run the phases of event streams: opened, watched, and brought something."""
        stand, driver = self._stand, self._driver
        over = driver.upload(20, mib=_SMALL_MIB)
        driver.finish()
        with stand.phase("streams", self.work) as work:
            watched = driver.watch(over, streams=self._count(120), seconds=60)
            work |= {Work.STREAM: watched.streams, Work.WATCHED_SECOND: watched.seconds}
        before = self._memory(Service.RESULTS)
        with stand.phase("watched", self.work) as work:
            jobs = driver.upload(6, mib=_SMALL_MIB, seconds=14)
            time.sleep(1)
            watched = driver.watch(jobs, streams=self._count(150), seconds=8)
            self.stream_mib = max(self._memory(Service.RESULTS) - before, 0.0) / watched.streams
            driver.finish()
            work |= {**_jobs(6, Work.JOB_SQS), **_watching(watched)}
        with stand.phase("events", self.work) as work:
            before = self._reports()
            jobs = driver.upload(4, mib=_SMALL_MIB, reports=25, seconds=6)
            watched = driver.watch(jobs, streams=self._count(80), seconds=60)
            driver.finish()
            told = self._reports() - before - len(jobs)
            work |= {**_jobs(4, Work.JOB_SQS), Work.PROGRESS: told, **_watching(watched)}

    def schedules(self) -> None:
        """Run the phase of firings: of schedules that have recordings analysed anew."""
        jobs = self._driver.upload(self._count(20), mib=_SMALL_MIB)
        self._driver.finish()
        with self._stand.phase("firings", self.work) as work:
            fired = self._fire(jobs, times=6)
            work |= {Work.FIRING: fired, Work.JOB_SQS: fired}

    def _fire(self, jobs: Sequence[str], *, times: int) -> int:
        before = self._stand.meters.one(_ENDED_FIRINGS)[0]
        self._driver.schedule(jobs, every=1.0, times=times)
        expected = len(jobs) * times
        ended = wait_until(
            lambda: self._stand.meters.one(_ENDED_FIRINGS)[0] - before,
            lambda count: count >= expected,
            seconds=60,
        )
        return int(ended)

    def cameras(self) -> None:
        """Run the phases of cameras: short clips of the film and long ones."""
        driver, stand = self._driver, self._stand
        count = self._count(8)
        with stand.phase("short clips", self.work, _clips(count, _SHORT_SECONDS)):
            driver.look(count, hls=self._hls, seconds=_SHORT_SECONDS)
            driver.finish()
        self.entry_bytes = stand.meters.bytes_per_entry(DEFAULT_STREAM)
        count = self._count(5)
        with stand.phase("long clips", self.work, _clips(count, _LONG_SECONDS)):
            driver.look(count, hls=self._hls, seconds=_LONG_SECONDS)
            driver.finish()

    def purge(self) -> None:
        """Run the phase of removals."""
        stand = self._stand
        count = self._count(150)
        left = "SELECT count(*) FROM jobs WHERE retain_until < now() + interval '1 day'"
        stand.meters.database.execute(_DUE.format(count=count).encode())
        with stand.phase("purge", self.work, {Work.PURGE: count}):
            path = "/schedules/housekeeping.purge-jobs/run"
            stand.call(Service.DISPATCHER, "POST", path)
            wait_until(lambda: stand.meters.one(left)[0], lambda rows: rows == 0, seconds=60)

    def more_pods(self) -> None:
        """Start the spare pod of each service in turn, and see what each uses by itself."""
        self.memory_mib = {service: self._memory(service) for service in Service}
        self.connections = self._stand.meters.connections()
        for service in Service:
            self._stand.start_second(service)
            time.sleep(2)  # what it does once
            with self._stand.phase(f"+ {service}", self.idle):
                time.sleep(_IDLE_SECONDS)

    def prove(self) -> None:
        """Run another mix on twice as many pods, of which nothing is fitted."""
        stand, driver = self._stand, self._driver
        driver.roll_out(50)
        spare = driver.upload(10, mib=_SMALL_MIB)
        driver.finish()
        with stand.phase("proof", self.proof) as work:
            sent, told = self._sent_over_sqs(), self._reports()
            fired = self._fire(spare, times=3)
            count = self._count(80)
            jobs = driver.upload(count, mib=0.5, reports=3, seconds=0.6, rate=10, lane=Lane.HIGH)
            slow = driver.upload(3, mib=0.1, reports=5, seconds=5)
            watched = driver.watch(slow, streams=30, seconds=30)
            driver.look(3, hls=self._hls, seconds=5)
            driver.finish()
            over_sqs = self._sent_over_sqs() - sent
            uploads = len(jobs) + len(slow)
            work |= {
                Work.UPLOAD: uploads,
                Work.UPLOAD_MIB: len(jobs) * 0.5 + len(slow) * 0.1,
                Work.JOB_SQS: over_sqs,
                Work.JOB_HTTP: uploads + fired - over_sqs,
                Work.PROGRESS: self._reports() - told - uploads - fired,
                Work.FIRING: fired,
                **_clips(3, 5.0),
                **_watching(watched),
            }
        driver.roll_out(100)
        self._hold_again(60)

    def _reports(self) -> int:
        """Count what analyses reported; of progress the latest only is sent."""
        return int(self._stand.meters.one("SELECT count(*) FROM webhook_inbox")[0])

    def _sent_over_sqs(self) -> int:
        return self._stand.meters.sent_over_sqs(self._stand.urls(Service.DISPATCHER))

    def _hold_again(self, count: int) -> None:
        """See what jobs of another lane take in Redis."""
        self._driver.pause(names=_LANES, on=True)
        self._driver.upload(count, mib=_SMALL_MIB, lane=Lane.LOW)
        self.waiting_proof_bytes = self._stand.meters.queue_bytes(Lane.LOW.queue_name) / count
        self._driver.pause(names=_LANES, on=False)
        self._driver.finish()

    def _count(self, count: int) -> int:
        return max(round(count * self._scale), 2)

    def _memory(self, service: Service) -> float:
        record = self._stand.now().process(str(service))
        if record is None or record.pid is None:
            raise LookupError(str(service))
        return memory_mib(record.pid)


def _jobs(count: int, transport: Work, *, mib: float = _SMALL_MIB) -> dict[Work, float]:
    return {Work.UPLOAD: count, Work.UPLOAD_MIB: count * mib, transport: count}


def _clips(count: int, seconds: float) -> dict[Work, float]:
    return {Work.CAMERA_JOB: count, Work.CAMERA_SECOND: count * seconds}


def _watching(watched: Watched) -> dict[Work, float]:
    return {
        Work.STREAM: watched.streams,
        Work.WATCHED_SECOND: watched.seconds,
        Work.STREAM_EVENT: watched.events,
    }
