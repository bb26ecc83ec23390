"""Canaries: single jobs that tell how long it takes until things work again after a fault."""

import itertools
import threading
import time
from dataclasses import fields, replace
from typing import Final

from headrace_chaos.asking import Asker
from headrace_chaos.cameras import Cameras
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.ledger import Ledger
from headrace_chaos.plan import TOKENS, PlannedJob, Shares, Way, make_plan
from headrace_chaos.sending import Senders
from headrace_common.contracts import Lane

#: Far above the items of any plan.
_FIRST_ITEM: Final = 1_000_000
#: Nothing is done to them.
_PLAIN: Final = Shares(**{each.name: 0.0 for each in fields(Shares)})
_POLL_SECONDS: Final = 0.1
_FINAL: Final = frozenset({"completed", "failed", "cancelled"})


class Canaries:
    """Sends single jobs and waits for them. Safe to use from any thread."""

    def __init__(self, endpoints: Endpoints, ledger: Ledger, *, seed: int, patience: float) -> None:
        """Make it.

        Args:
            endpoints: of the stack.
            ledger: knows them as it knows any job.
            seed: decides what they say.
            patience: seconds after which one is given up.
        """
        self._stop = threading.Event()
        self._asker = Asker(endpoints, self._stop)
        self._cameras = Cameras()
        self._patience = patience
        self._items = itertools.count(_FIRST_ITEM)
        self._seed = seed
        self._endpoints = endpoints
        self._ledger = ledger
        self._senders: Senders | None = None

    def start(self, *, cameras: bool) -> None:
        """Make what they need: tokens, and cameras if there are camera jobs."""
        if cameras:
            self._cameras.__enter__()
        self._senders = Senders(
            self._endpoints, self._ledger, self._asker, f"canary-{self._seed}", self._cameras.urls
        )
        self._senders.make_tokens()

    def close(self) -> None:
        """Stop waiting for any."""
        self._stop.set()
        self._asker.close()
        self._cameras.__exit__(None, None, None)

    def fly(self, *, camera: bool) -> float | None:
        """Send one and wait until it is completed.

        Returns:
            Seconds that it took; None if it was given up, or did not end well.
        """
        assert self._senders is not None
        began = time.monotonic()
        job_id = self._senders.send(self._job(camera=camera))
        while job_id is not None and time.monotonic() - began < self._patience:
            status = self._status(job_id)
            if status in _FINAL:
                return time.monotonic() - began if status == "completed" else None
            if self._stop.wait(_POLL_SECONDS):
                break
        return None

    def _status(self, job_id: str) -> str | None:
        answer = self._asker.ask("results", "GET", f"/jobs/{job_id}", patience=self._patience)
        return str(answer.json()["status"]) if answer is not None and answer.is_success else None

    def _job(self, *, camera: bool) -> PlannedJob:
        item = next(self._items)
        [job] = make_plan(hash((self._seed, item)), jobs=1, seconds=0, shares=_PLAIN)
        way = Way.CAMERA if camera else Way.UPLOAD
        return replace(job, item=item, way=way, lane=Lane.HIGH, token=TOKENS[0])
