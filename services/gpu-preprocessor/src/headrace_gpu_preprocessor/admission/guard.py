"""The memory guard: a job begins when there is room for it, and waits otherwise."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import structlog
from pydantic import BaseModel

from headrace_common.errors import UnavailableError
from headrace_gpu_preprocessor.admission import metrics
from headrace_gpu_preprocessor.admission.estimate import Estimate
from headrace_gpu_preprocessor.admission.probes import MemoryProbe, MemoryReading
from headrace_gpu_preprocessor.admission.settings import AdmissionSettings

log = structlog.get_logger()

MIB: Final = 1024 * 1024
#: Once jobs wait, so much more than they need must be free, lest they stop and go.
_HYSTERESIS: Final = 0.1
#: A need is never taken for more than this share of all memory that can become free.
_MOST_SHARE: Final = 0.9
#: While nothing runs and jobs have waited for so long, what one is taken to need halves each time.
_PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


class EstimateView(BaseModel):
    """What one kind of job is taken to need."""

    need_bytes: int
    samples: int


class AdmissionView(BaseModel):
    """The guard, for GET /worker/status. Bytes; None where the memory cannot be read."""

    enabled: bool
    probe: str
    holding: bool
    held_seconds: float
    free_bytes: int | None
    total_bytes: int | None
    promised_bytes: int
    reserve_bytes: int
    running: int
    estimates: dict[str, EstimateView]


class NoRoomError(UnavailableError):
    """There is not enough memory now."""

    code = "memory_busy"
    title = "Not enough memory now"


class Admitted:
    """Room for one job, until it is released."""

    def __init__(self, guard: "MemoryGuard", kind: str, need: int, *, alone: bool) -> None:
        """Used by the guard."""
        self._guard = guard
        self.kind = kind
        self.need = need
        self.alone = alone
        self._released = False

    def release(self) -> None:
        """Give the room back; the guard learns what was used."""
        if not self._released:
            self._released = True
            self._guard.release(self)

    def __enter__(self) -> Self:
        """Nothing to do: there is room already."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Give the room back."""
        self.release()


@dataclass(frozen=True)
class _Room:
    """What there is for further jobs, beside what running ones will take yet."""

    reading: MemoryReading
    promised: int

    def after(self, need: int, count: int) -> int:
        return self.reading.free - self.promised - need * count


class MemoryGuard:
    """Admits jobs by free memory, what running ones will take yet, and what one needs.

    Safe to use from any thread. A probe that fails does not hold work up: it is logged, and
    jobs are admitted, because out of memory is survived too.
    """

    def __init__(
        self,
        probe: MemoryProbe,
        settings: AdmissionSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Guard the memory that `probe` measures; `clock` tells monotonic seconds."""
        self._probe = probe
        self._clock = clock
        self._enabled = settings.gpu_memory_guard
        self._reserve = settings.gpu_memory_reserve_mib * MIB
        self._start = Estimate(settings.gpu_memory_job_mib * MIB)
        self._estimates: dict[str, Estimate] = {}
        self._admitted: set[Admitted] = set()
        self._baseline = 0
        self._most_at_once = 0
        self._held_since: float | None = None
        #: When the last job ended; others were in the way before.
        self._idle_since = clock()
        #: How often the need was halved that nothing could meet; until a job is admitted.
        self._halvings = 0
        self._probe_failed = False
        self._lock = threading.RLock()

    def room(self, kind: str, wanted: int) -> int:
        """Return how many more jobs of a kind could be admitted now, at most `wanted`."""
        with self._lock:
            if not self._enabled or wanted < 1:
                return max(0, wanted)
            room = self._look()
            if room is None:
                return wanted
            fitting = 0
            while fitting < wanted and self._fits(room, kind, fitting):
                fitting += 1
            self._note_holding(room, kind, holding=fitting == 0)
            return fitting

    def try_admit(self, kind: str) -> Admitted | None:
        """Put room aside for a job of a kind; None while there is not enough."""
        with self._lock:
            if self.room(kind, 1) < 1:
                return None
            alone = not self._admitted
            if alone:
                self._begin_to_measure()
            else:
                for other in self._admitted:
                    other.alone = False
            admitted = Admitted(self, kind, self._estimate(kind).need_bytes, alone=alone)
            self._admitted.add(admitted)
            self._halvings = 0
            self._most_at_once = max(self._most_at_once, len(self._admitted))
            return admitted

    def admit(self, kind: str, *, timeout: float, stop: threading.Event | None = None) -> Admitted:
        """Wait for room, up to `timeout` seconds or until `stop` is set.

        Raises:
            NoRoomError: there was none.
        """
        stop = stop or threading.Event()
        deadline = time.monotonic() + timeout
        while (admitted := self.try_admit(kind)) is None:
            if time.monotonic() >= deadline or stop.wait(_POLL_SECONDS):
                raise NoRoomError("not enough free memory; try again")
        return admitted

    def release(self, admitted: Admitted) -> None:
        """Take room back, and learn from what was used; called by `Admitted.release`."""
        with self._lock:
            self._admitted.discard(admitted)
            self._idle_since = self._clock()
            if not self._enabled:
                return
            try:
                peak = self._probe.peak()
            except Exception as error:  # noqa: BLE001 - drivers raise what they like
                self._note_probe_failure(error)
                return
            if peak is None or peak <= self._baseline:
                return
            share = (peak - self._baseline) // (1 if admitted.alone else self._most_at_once)
            estimate = self._estimate(admitted.kind).learned(share, alone=admitted.alone)
            self._estimates[admitted.kind] = estimate
            metrics.ESTIMATE.labels(kind=admitted.kind).set(estimate.need_bytes)

    def view(self) -> AdmissionView:
        """Return the guard's state."""
        with self._lock:
            room = self._look()
            held = self._held_since
            return AdmissionView(
                enabled=self._enabled,
                probe=self._probe.name,
                holding=held is not None,
                held_seconds=0.0 if held is None else round(self._clock() - held, 1),
                free_bytes=room.reading.free if room else None,
                total_bytes=room.reading.total if room else None,
                promised_bytes=room.promised if room else 0,
                reserve_bytes=self._reserve,
                running=len(self._admitted),
                estimates={
                    kind: EstimateView(need_bytes=each.need_bytes, samples=each.samples)
                    for kind, each in self._estimates.items()
                },
            )

    def _estimate(self, kind: str) -> Estimate:
        return self._estimates.setdefault(kind, self._start)

    def _look(self) -> _Room | None:
        try:
            reading = self._probe.read()
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self._note_probe_failure(error)
            return None
        self._probe_failed = False
        # What running jobs use already is no longer free; only the rest is promised.
        used = max(0, reading.own - self._baseline)
        promised = max(0, sum(each.need for each in self._admitted) - used)
        metrics.MEMORY_FREE.labels(probe=self._probe.name).set(reading.free)
        metrics.MEMORY_TOTAL.labels(probe=self._probe.name).set(reading.total)
        metrics.MEMORY_PROMISED.set(promised)
        return _Room(reading, promised)

    def _fits(self, room: _Room, kind: str, before: int) -> bool:
        """Whether one more job fits beside `before` others that were not admitted yet.

        What this process has without any job never becomes free, nor may what others have: a
        job that waits for either would wait for ever, where a smaller one fits. Only the reserve
        is never given away.
        """
        reading, need = room.reading, self._estimate(kind).need_bytes
        wanted = need
        resident = self._baseline if self._admitted else reading.own
        if self._held_since is not None:
            wanted += int(need * _HYSTERESIS)
        if not self._admitted:
            if self._held_since is not None:
                held = self._clock() - max(self._held_since, self._idle_since)
                self._halvings = max(self._halvings, int(held // _PATIENCE_SECONDS))
            wanted = int(wanted * 0.5**self._halvings)
        most = int((reading.total - resident) * _MOST_SHARE)
        return room.after(need, before) >= min(wanted + self._reserve, most)

    def _begin_to_measure(self) -> None:
        self._most_at_once = 0
        try:
            self._probe.reset_peak()
            self._baseline = self._probe.read().own
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self._note_probe_failure(error)

    def _note_holding(self, room: _Room, kind: str, *, holding: bool) -> None:
        if holding == (self._held_since is not None):
            return
        facts = {
            "kind": kind,
            "free_mib": room.reading.free // MIB,
            "promised_mib": room.promised // MIB,
            "need_mib": self._estimate(kind).need_bytes // MIB,
            "running": len(self._admitted),
        }
        metrics.HOLDING.set(holding)
        if holding:
            self._held_since = self._clock()
            metrics.HOLDS.inc()
            log.warning("admission.holding", **facts)
        elif self._held_since is not None:
            seconds = round(self._clock() - self._held_since, 1)
            self._held_since = None
            log.info("admission.released", held_seconds=seconds, **facts)

    def _note_probe_failure(self, error: Exception) -> None:
        if not self._probe_failed:
            self._probe_failed = True
            log.error("admission.probe_failed", probe=self._probe.name, error=str(error)[:300])
