"""The gpu-preprocessor: clips of cameras off the stream, into Swift."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final
from uuid import uuid4

from headrace_common.contracts.cctv import (
    DEFAULT_STREAM,
    REPORT_FIELD,
    REPORTS_SUFFIX,
    CctvReport,
    CctvState,
)
from headrace_local.services import PREPROCESSOR
from headrace_scaling.doings import Doing
from headrace_scaling.scene import Scene
from headrace_scaling.work import Work

_CLIP_SECONDS: Final = 1


class CameraJobs(Work):
    """Entries as the Java service adds them; a piece is a job."""

    deployment: ClassVar[str] = "gpu-preprocessor"
    service: ClassVar[str] = PREPROCESSOR
    what: ClassVar[str] = "clips of cameras"
    # Each takes seconds of so small a share; with more of it Swift, which has half as much to do
    # for each as a replica, would be the limit on two cores.
    each: ClassVar[int] = 6
    is_timed_whole: ClassVar[bool] = True
    settled_by: ClassVar[str] = "REDIS_VISIBILITY_TIMEOUT"

    def __init__(self, scene: Scene, playlist: str) -> None:
        """Make it; `playlist` is the URL of a camera's clip."""
        super().__init__(scene)
        self._playlist = playlist

    def feed(self, count: int) -> Sequence[str]:
        """Add so many entries."""
        items = [str(uuid4()) for _ in range(count)]
        for item in items:
            self.scene.redis.xadd(
                DEFAULT_STREAM,
                {
                    "cctvId": f"camera-{item[:8]}",
                    "hls": self._playlist,
                    "sec": str(_CLIP_SECONDS),
                    "attempt": "0",
                    "enqueuedAt": str(time.time_ns() // 1_000_000),
                    "jobId": item,
                },
            )
        return items

    def unfinished(self, items: Sequence[str]) -> int:
        """Count the jobs that no report says are completed: it is one step with the XACK."""
        return len(items) - len({report.job_id for report in self._completed(items)})

    def doings(self) -> Sequence[Doing]:
        """Return who did which."""

        def item(fields: Any) -> str | None:
            return str(fields["job_id"]) if fields["outcome"] == "completed" else None

        return self.logbook.doings(self.replicas, "stream.job_ended", item)

    def effects(self, items: Sequence[str]) -> int:
        """Count the reports that say that a job is completed."""
        return sum(1 for _ in self._completed(items))

    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return those that were handed out more than once."""
        return [report.job_id for report in self._completed(items) if report.delivery > 1]

    def _completed(self, items: Sequence[str]) -> Iterator[CctvReport]:
        wanted = set(items)
        for _, fields in self.scene.redis.xrange(f"{DEFAULT_STREAM}{REPORTS_SUFFIX}"):
            report = CctvReport.model_validate_json(fields[REPORT_FIELD.encode()])
            if report.job_id in wanted and report.state is CctvState.COMPLETED:
                yield report
