"""What a handler is given: one entry, a lease on it, and a way to say how far it is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace_common.contracts.cctv import CctvResult, PreprocessEntry, SettledJob, Stage
from headrace_gpu_preprocessor.stream.errors import JobCancelledError, StopRequestedError
from headrace_gpu_preprocessor.stream.leases import Lease

_LONGEST_MESSAGE: Final = 1_000


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        percent: of the work, 0 to 100.
    """

    stage: Stage | None
    percent: float
    message: str


class LeasedJob:
    """One attempt at a job. Its methods may be called from any thread."""

    def __init__(
        self,
        entry: PreprocessEntry,
        lease: Lease,
        *,
        stopping: threading.Event,
        on_progress: Callable[["LeasedJob"], None],
    ) -> None:
        """Make it; `on_progress` is called in the thread that tells of progress."""
        self.entry = entry
        self.entry_id = lease.hold.entry_id
        self.delivery = lease.hold.delivery
        self.stopping = stopping
        #: Set when somebody has cancelled the job.
        self.cancelled = threading.Event()
        self._lease = lease
        self._on_progress = on_progress
        self._progress = Progress(None, 0, "Waiting for memory")
        self._began = time.monotonic()

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.entry.job_id

    @property
    def now(self) -> Progress:
        """How far it is."""
        return self._progress

    @property
    def seconds(self) -> float:
        """How long this attempt takes so far."""
        return time.monotonic() - self._began

    def begin(self) -> None:
        """Note that the work begins, and its time."""
        self._began = time.monotonic()
        self._tell(Progress(None, 0, "Started"))

    def progress(self, stage: Stage, percent: float, message: str) -> None:
        """Tell how far it is; reported as soon as may be, and left out where that is too much.

        Args:
            stage: what is done now.
            percent: of the whole work, 0 to 100.
            message: for people.
        """
        percent = min(percent, 100.0) if percent > 0 else 0.0  # NaN too
        self._tell(Progress(stage, percent, message[:_LONGEST_MESSAGE]))

    def wait(self, message: str) -> None:
        """Note why it waits; for whoever reports it next."""
        self._progress = Progress(None, 0, message[:_LONGEST_MESSAGE])

    def check(self) -> None:
        """Return while the work may go on. Call it before each step and each effect.

        Raises:
            LeaseLostError: the entry is another's, or could be.
            StopRequestedError: the process stops and its grace is over.
            JobCancelledError: the job is cancelled.
        """
        self.check_held()
        if self.cancelled.is_set():
            raise JobCancelledError(f"job {self.job_id} is cancelled")

    def check_held(self) -> None:
        """Return while what was begun may be ended or taken back, the job cancelled or not.

        Raises:
            LeaseLostError, StopRequestedError: see `check`.
        """
        self._lease.check()
        if self.stopping.is_set():
            raise StopRequestedError("the process stops")

    def _tell(self, progress: Progress) -> None:
        self._progress = progress
        self._on_progress(self)


#: Does the work of one job, in a thread of its own, and returns what it has. Raises a
#: HeadraceError whose `retryable` and `retry_after` decide what becomes of the entry; anything
#: else counts as retryable.
Handler = Callable[[LeasedJob], CctvResult]

#: Removes what a run of a job left in Swift, but for what is to be kept; asks the second before
#: each removal, which raises to prevent it.
Remover = Callable[[SettledJob, Callable[[], None]], None]
