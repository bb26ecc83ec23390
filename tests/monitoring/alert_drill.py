"""Makes faults, several at a time, and measures when their alerts fire and when they clear."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from alert_faults import Fault
from prometheus_server import Firing, Prometheus

from headrace_local.waiting import wait_until

#: What the slowest needs on a machine that has much else to do; most are done in a tenth of it.
_PATIENCE_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.25
_FAST: Final = "HeadraceSloBurnsFast"
_SLOWLY: Final = "HeadraceSloBurnsSlowly"


@dataclass(frozen=True)
class Outcome:
    """What became of an alert.

    Attributes:
        fault: that was made.
        alert: that fired.
        to_fire: seconds from when the fault began to be made.
        to_clear: seconds from when it began to be mended.
    """

    fault: str
    alert: str
    to_fire: float
    to_clear: float


class Watch:
    """Looks at the alerts all the time."""

    def __init__(self, server: Prometheus) -> None:
        self._server = server
        self._now: list[Firing] = []
        #: All that fired since it was last emptied.
        self.seen: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self._now = self._server.firing()
            self.seen |= self.names()

    def check(self) -> None:
        """Raise unless it still looks."""
        assert self._thread.is_alive(), "nobody looks at the alerts any more"

    def names(self) -> set[str]:
        """Return the names of those that fire now."""
        return {each.name for each in self._now}

    def fires(self, name: str, where: Mapping[str, str]) -> bool:
        """Whether an alert fires, with these labels where it has such at all."""
        return any(
            each.name == name
            and all(each.labels.get(label, value) == value for label, value in where.items())
            for each in self._now
        )


class Drill:
    """Makes each fault as soon as it is in no other's way."""

    def __init__(self, watch: Watch, tell: Callable[[str], None]) -> None:
        """Make it.

        Args:
            watch: sees what fires.
            tell: gets a line of what happens, from any thread.
        """
        self._watch = watch
        self._tell = tell
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self._running: list[Fault] = []
        self._errors: list[Exception] = []
        self.outcomes: list[Outcome] = []

    def run(self, faults: Iterable[Fault]) -> None:
        """Make all of them, and wait until the last is over.

        Raises:
            ExceptionGroup: some could not be made, or their alerts did not do as they should.
        """
        waiting, threads = list(faults), []
        while waiting:
            fault = self._take(waiting)
            # One after another: to make a fault is seldom possible while another is made.
            try:
                began = self._make(fault)
            except Exception as error:  # noqa: BLE001 - told at the end, with those of others
                self._fail(fault, error)
                continue
            threads.append(threading.Thread(target=self._last, args=[fault, began], daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise ExceptionGroup("the drill failed", self._errors)

    def _take(self, waiting: list[Fault]) -> Fault:
        """Wait until one of the faults is in nobody's way, and take it."""
        with self._changed:
            while True:
                for fault in waiting:
                    if not any(fault.conflicts_with(other) for other in self._running):
                        waiting.remove(fault)
                        self._running.append(fault)
                        return fault
                self._changed.wait()

    def _make(self, fault: Fault) -> float:
        """Make a fault whose alerts do not fire yet; return when that began."""
        fault.prepare()
        self._until(lambda: not any(self._watch.fires(n, fault.where) for n in fault.alerts))
        self._say(f"made   {fault.name}")
        began = time.monotonic()
        fault.make()
        return began

    def _last(self, fault: Fault, began: float) -> None:
        try:
            self.outcomes += self._measured(fault, began)
        except Exception as error:  # noqa: BLE001 - told at the end, with those of others
            self._fail(fault, error)
        else:
            self._end(fault)

    def _fail(self, fault: Fault, error: Exception) -> None:
        error.add_note(f"fault: {fault.name}")
        self._errors.append(error)
        self._say(f"FAILED {fault.name}: {error}")
        try:
            fault.mend()
        except Exception as other:  # noqa: BLE001 - told too
            self._errors.append(other)
        self._end(fault)

    def _end(self, fault: Fault) -> None:
        with self._changed:
            self._running.remove(fault)
            self._changed.notify_all()

    def _measured(self, fault: Fault, began: float) -> list[Outcome]:
        fired = self._times(began, fault, (fault.prod, fault.use), fires=True)
        if _SLOWLY in fault.alerts:
            assert not self._watch.fires(_FAST, fault.where)
        self._say(f"mended {fault.name}")
        began = time.monotonic()
        fault.mend()
        cleared = self._times(began, fault, (fault.use,), fires=False)
        self._say(f"over   {fault.name}")
        return [Outcome(fault.name, each, fired[each], cleared[each]) for each in fault.alerts]

    def _times(
        self,
        began: float,
        fault: Fault,
        besides: Collection[Callable[[], object]],
        *,
        fires: bool,
    ) -> dict[str, float]:
        """Return the seconds since `began` until each alert fires, or fires no more."""
        done: dict[str, float] = {}
        next_at = time.monotonic()

        def look() -> bool:
            nonlocal next_at
            if time.monotonic() >= next_at:
                for each in besides:
                    each()
                next_at = time.monotonic() + fault.every_seconds
            for name in fault.alerts:
                if name not in done and self._watch.fires(name, fault.where) == fires:
                    done[name] = time.monotonic() - began
            return len(done) == len(fault.alerts)

        try:
            self._until(look)
        except AssertionError as late:
            missing = sorted({*fault.alerts} - done.keys())
            wanted = "fire" if fires else "clear"
            raise AssertionError(f"{missing} did not {wanted}") from late
        return done

    def _until(self, look: Callable[[], bool]) -> None:
        def seen() -> bool:
            self._watch.check()
            return look()

        wait_until(seen, seconds=_PATIENCE_SECONDS)

    def _say(self, line: str) -> None:
        self._tell(f"{time.monotonic() - self._began:6.1f} s  {line}")
