"""Somebody who uses everything of a watched stack a little, again and again."""

import threading
from pathlib import Path
from typing import Final, Self

from camera_yard import Yard
from planner import Planner

from headrace_common.contracts.lanes import Lane
from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until

#: For a job of each lane and one of a camera, on a machine that has much else to do.
_ROUND_SECONDS: Final = 120


class Usage:
    """Uploads, follows, schedules, watches cameras, and makes the mistakes that clients make."""

    def __init__(self, stack: LocalStack, place: Path) -> None:
        self.yard = Yard(stack, place)
        self._planner = Planner(stack)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._fault: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(_ROUND_SECONDS)
        self._planner.close()
        self.yard.close()

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._fault is not None:
            raise AssertionError("the stack cannot be used") from self._fault

    def _run(self) -> None:
        try:
            token = self.yard.user.token()
            first = self.yard.user.upload(token)["job_id"]
            schedule = self._planner.add("audio.reanalyse", seconds=5, job_id=first)
            while not self._stopping.is_set():
                self._once(token)
            self._planner.remove(schedule)
        except Exception as fault:  # noqa: BLE001 - told to whoever waits
            self._fault = fault

    def _once(self, token: str) -> None:
        """Have a job of each lane and one of a camera done; no more than that waits at a time."""
        user = self.yard.user
        jobs = [user.upload(token, priority=lane.value)["job_id"] for lane in Lane]
        jobs.append(self.yard.add(self.yard.vod))
        refused = user.ingest.post(
            f"/tokens/{token}/upload-audio", files={"file": ("notes.wav", b"none of these")}
        )
        assert refused.status_code == 415
        unsigned = user.results.post("/webhooks/analysis", json={"job_id": jobs[0]})
        assert unsigned.status_code == 401
        with user.results.stream("GET", f"/jobs/{jobs[0]}/events") as events:
            assert events.status_code == 200
            self._stopping.wait(3)
        wait_until(lambda: all(self.yard.is_final(job) for job in jobs), seconds=_ROUND_SECONDS)
