"""The load: jobs by every way at a steady pace, those who follow them, and those who look."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final, Self

from headrace_chaos.agenda import Agenda
from headrace_chaos.deeds import Deeds
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.ledger import Entry, Ledger
from headrace_chaos.plan import PlannedJob, Shares, Way, make_plan
from headrace_chaos.sending import Senders

from headrace_rolling.clients import Keyless, OneTry
from headrace_rolling.following import Follower
from headrace_rolling.tally import Tally

SHARES: Final = Shares(
    camera=0.1,
    direct=0.12,
    twice=0.15,
    cancel=0.05,
    retry=0.04,
    follow=0.4,
    replay=0.05,
    too_short=0.03,
    later=0.06,
)
#: More than any run sends.
_MOST_JOBS: Final = 5_000
#: One in so many uploads comes from a client that sends no Idempotency-Key.
_KEYLESS: Final = 3
_THREADS: Final = 10
_LOOKERS: Final = 4
_LOOK_AGAIN_SECONDS: Final = 1.0
#: At a time; who comes when so many are there does not follow.
_MOST_FOLLOWERS: Final = 16
#: What is asked for, again and again: service and path.
LOOKS: Final = (
    ("results", "/jobs?limit=20"),
    ("ingest-api", "/queue/status"),
    ("dispatcher", "/state"),
    ("dispatcher", "/schedules?limit=20"),
    ("gpu-preprocessor", "/worker/status"),
)


@dataclass(frozen=True)
class Pace:
    """How much there is.

    Attributes:
        jobs_per_second: that are sent.
        shares: of what.
        keeps: whether clients keep their connections.
        looks: what is asked for besides, again and again: service and path.
        look_seconds: from one look of each of those who look to the next.
        seed: of all that is drawn.
    """

    jobs_per_second: float = 1.0
    shares: Shares = field(default_factory=lambda: SHARES)
    looks: tuple[tuple[str, str], ...] = LOOKS
    look_seconds: float = 0.1
    keeps: bool = True
    seed: int = 1


class Load:
    """Goes on from `start` to `finish`. A context manager."""

    def __init__(
        self,
        endpoints: Endpoints,
        ledger: Ledger,
        tally: Tally,
        *,
        run: str,
        pace: Pace,
        cameras: tuple[str, ...],
    ) -> None:
        """Make it.

        Args:
            endpoints: of the stack; its services are the addresses of the balancers.
            ledger: gets every promise.
            tally: counts every request.
            run: a name that keeps the loads of one stack apart.
            pace: how much.
            cameras: URLs of playlists; none where no camera is looked at.
        """
        self.followed = self.connections = 0
        self._endpoints = endpoints
        self._ledger = ledger
        self._tally = tally
        self._pace = pace
        self._asker = OneTry(endpoints.services, endpoints.headers, tally, keeps=pace.keeps)
        self._senders = Senders(endpoints, ledger, self._asker, run, cameras)
        self._keyless = Senders(endpoints, ledger, Keyless(self._asker), run, cameras)
        self._deeds = Deeds(endpoints, ledger, self._asker)
        self._plan: Iterator[PlannedJob] = iter(
            make_plan(pace.seed, jobs=_MOST_JOBS, seconds=0, shares=pace.shares)
        )
        self._agenda = Agenda(_THREADS)
        self._sending = True
        self._ended = threading.Event()
        self._accepted: dict[str, Way] = {}
        self._followers: list[threading.Thread] = []
        self._lookers = [
            threading.Thread(target=self._look, args=(number,), name=f"looker-{number}")
            for number in range(_LOOKERS)
        ]
        self._counting = threading.Lock()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything; who follows a job that never ends is left behind."""
        self._ended.set()
        self._agenda.stop()
        for thread in self._lookers:
            if thread.ident is not None:
                thread.join()
        self._asker.close()

    def start(self) -> None:
        """Make the tokens, and begin.

        Raises:
            NothingAcceptedError: the stack takes nothing.
        """
        self._senders.make_tokens()
        self._agenda.after(0, self._send_next)
        self._agenda.start()
        for thread in self._lookers:
            thread.start()

    def finish(self, seconds: float) -> bool:
        """Send no more jobs, and wait until all is done to them, and all followers have ended.

        Returns:
            Whether it was, in so many seconds.
        """
        deadline = time.monotonic() + seconds
        self._sending = False
        done = self._agenda.wait(seconds)
        for thread in self._followers:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._ended.set()
        for thread in self._lookers:
            thread.join()
        return done and not any(thread.is_alive() for thread in self._followers)

    @property
    def accepted(self) -> Counter[Way]:
        """How many jobs were accepted by each way."""
        return Counter(self._accepted.copy().values())

    def _send_next(self) -> None:
        if not self._sending:
            return
        self._agenda.after(1 / self._pace.jobs_per_second, self._send_next)
        job = next(self._plan)
        if job.is_camera and not self._senders.cameras:
            return
        is_keyless = job.way is Way.UPLOAD and job.item % _KEYLESS == 0
        senders = self._keyless if is_keyless else self._senders
        job_id = senders.send(job)
        if job_id is None:
            return
        self._accepted[job_id] = job.way
        if job.follow:
            self._follow(job_id)
        if job.twice and not is_keyless:
            senders.send(job)  # the answer is the same, whoever gives it
        self._plan_deeds(job, job_id)

    def _plan_deeds(self, job: PlannedJob, job_id: str) -> None:
        if not _is_known(job.way):
            return
        if job.cancel_after is not None:
            self._agenda.after(job.cancel_after, partial(self._deeds.cancel, job_id))
        if job.retry:
            self._once_final(job_id, partial(self._deeds.retry, job_id))
        if job.replay:
            self._once_final(job_id, partial(self._deeds.replay, job_id))

    def _once_final(self, job_id: str, deed: partial[None]) -> None:
        def look() -> None:
            if self._deeds.is_final(job_id):
                deed()
            elif not self._ended.is_set():
                self._once_final(job_id, deed)

        self._agenda.after(_LOOK_AGAIN_SECONDS, look)

    def _follow(self, job_id: str) -> None:
        if sum(thread.is_alive() for thread in self._followers) >= _MOST_FOLLOWERS:
            return
        endpoints = self._endpoints
        follower = Follower(
            job_id, endpoints.service("results"), endpoints.headers, self._tally, self._ended
        )

        def follow() -> None:
            seen = follower.follow()
            with self._counting:
                self.followed += 1
                self.connections += follower.connections
            self._ledger.note(Entry.FOLLOWED, job_id=job_id, events=seen.events, ended=seen.ended)

        thread = threading.Thread(target=follow, name=f"follow-{job_id[:8]}", daemon=True)
        self._followers.append(thread)
        thread.start()

    def _look(self, number: int) -> None:
        """Ask for this and that, again and again."""
        chance = random.Random(number)  # noqa: S311 - which job is looked at is no secret
        looks = [each for each in self._pace.looks if each[0] in self._endpoints.services]
        for service, path in itertools.cycle(looks):
            self._asker.ask(service, "GET", path)
            if known := [job_id for job_id, way in self._accepted.copy().items() if _is_known(way)]:
                self._asker.ask("results", "GET", f"/jobs/{chance.choice(known)}")
            if self._ended.wait(self._pace.look_seconds):
                return


def _is_known(way: Way) -> bool:
    """Whether a job has a row once it is accepted; results makes that of an entry's job later."""
    return way is not Way.STREAM
