"""The workload: the plan, sent in at its pace, whatever happens to the stack meanwhile."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

from headrace_chaos.agenda import Agenda
from headrace_chaos.asking import Asker
from headrace_chaos.cameras import Cameras
from headrace_chaos.deeds import Deeds
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.following import Follower
from headrace_chaos.ledger import Entry, Ledger
from headrace_chaos.plan import PlannedJob, Way
from headrace_chaos.sending import Senders

_THREADS: Final = 12
#: Longer than any run; whoever follows gives up when the workload is left.
_FOLLOW_SECONDS: Final = 24 * 3600.0
#: At a time; who comes when so many are there does not follow.
_MOST_FOLLOWERS: Final = 40
_LOOK_AGAIN_SECONDS: Final = 2.0
#: A job that has not ended by then is the checker's affair.
_MOST_LOOKS: Final = 300


class Workload:
    """Sends the plan's jobs, and does to them what the plan says. A context manager.

    Once `start`ed it goes on by itself; `wait` tells when everything is done.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        ledger: Ledger,
        plan: Sequence[PlannedJob],
        *,
        run: str,
        follow_seconds: float = _FOLLOW_SECONDS,
        threads: int = _THREADS,
    ) -> None:
        """Make it.

        Args:
            endpoints: of the stack.
            ledger: gets every promise.
            plan: see `make_plan`.
            run: a name that keeps the workloads of one stack apart.
            follow_seconds: after which a follower gives up.
            threads: requests at a time.
        """
        self._endpoints = endpoints
        self._ledger = ledger
        self._plan = plan
        self._run = run
        self._follow_seconds = follow_seconds
        self._stop = threading.Event()
        self._asker = Asker(endpoints, self._stop)
        self._deeds = Deeds(endpoints, ledger, self._asker)
        self._agenda = Agenda(threads)
        self._cameras = Cameras()
        self._followers: list[threading.Thread] = []
        self._senders: Senders | None = None
        self._accepted: dict[str, Way] = {}

    def __enter__(self) -> Self:
        """Start the cameras that it needs."""
        if any(job.is_camera for job in self._plan):
            self._cameras.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self._stop.set()
        self._agenda.stop()
        for thread in self._followers:
            thread.join()
        self._asker.close()
        self._cameras.__exit__(kind, error, trace)

    def start(self) -> None:
        """Make the tokens, and begin.

        Raises:
            NothingAcceptedError: the stack takes nothing.
        """
        self._senders = Senders(
            self._endpoints, self._ledger, self._asker, self._run, self._cameras.urls
        )
        self._senders.make_tokens()
        for job in self._plan:
            for _ in range(2 if job.twice else 1):
                self._agenda.after(job.due, partial(self._send, self._senders, job))
        self._agenda.start()

    def wait(self, seconds: float) -> bool:
        """Wait until all jobs are sent and done to as planned; whether that is so."""
        return self._agenda.wait(seconds)

    def finish_following(self, seconds: float) -> None:
        """Let those that follow come to their jobs' ends, for so long in all."""
        deadline = time.monotonic() + seconds
        for thread in self._followers:
            thread.join(max(deadline - time.monotonic(), 0.0))

    @property
    def accepted(self) -> Counter[Way]:
        """How many jobs were accepted by each way."""
        return Counter(self._accepted.copy().values())

    @property
    def left(self) -> int:
        """Things still to be done."""
        return self._agenda.left

    @property
    def answers(self) -> Counter[str]:
        """How often the services gave each answer, or which error stood in its place."""
        return self._asker.answers

    def _send(self, senders: Senders, job: PlannedJob) -> None:
        job_id = senders.send(job)
        if job_id is None:
            return
        self._accepted[job_id] = job.way
        if job.cancel_after is not None:
            self._agenda.after(job.cancel_after, partial(self._deeds.cancel, job_id))
        if job.retry and job.retry_after is not None:
            self._agenda.after(job.retry_after, partial(self._deeds.retry, job_id))
        elif job.retry:
            self._once_final(job_id, partial(self._deeds.retry, job_id))
        if job.replay:
            self._once_final(job_id, partial(self._deeds.replay, job_id))
        if job.follow:
            self._follow(job_id)

    def _once_final(self, job_id: str, deed: partial[None], looks: int = _MOST_LOOKS) -> None:
        def look() -> None:
            if self._deeds.is_final(job_id):
                deed()
            elif looks > 1:
                self._once_final(job_id, deed, looks - 1)

        self._agenda.after(_LOOK_AGAIN_SECONDS, look)

    def _follow(self, job_id: str) -> None:
        if sum(thread.is_alive() for thread in self._followers) >= _MOST_FOLLOWERS:
            return
        follower = Follower(
            job_id, self._endpoints.results_urls, self._endpoints.headers, self._stop
        )

        def follow() -> None:
            seen = follower.follow(seconds=self._follow_seconds)
            self._ledger.note(Entry.FOLLOWED, job_id=job_id, events=seen.events, ended=seen.ended)

        thread = threading.Thread(target=follow, name=f"follow-{job_id[:8]}", daemon=True)
        self._followers.append(thread)
        thread.start()
