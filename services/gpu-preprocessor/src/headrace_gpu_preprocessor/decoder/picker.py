"""Chooses the samples among packets, before they are decoded, and leaves out what nobody needs.

Of a clip only the samples are looked at. Pictures that no other refers to are skipped by the
decoder unless they are samples; and what follows the last sample before a fresh start of the
stream is not decoded at all. Both change no sample. The clip's clock runs on packets, so that
gaps are seen whatever is decoded.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from headrace_gpu_preprocessor.decoder.timeline import Timeline

#: Packets whose clip time is remembered until their picture comes out of the decoder.
_REMEMBERED: Final = 256
#: A picture is shown at most so long after it is decoded; a larger claim is nonsense. Seconds.
_MAX_DELAY: Final = 1.0
#: After so many packets without a time of decoding they are taken to come in order of showing.
_MOST_WITHOUT_DTS: Final = 16
_EPSILON: Final = 1e-6


class Stamped(Protocol):
    """A packet of coded video."""

    @property
    def pts(self) -> int | None:
        """When it is shown, in the stream's units."""

    @property
    def dts(self) -> int | None:
        """When it is decoded, in the stream's units."""

    @property
    def is_discard(self) -> bool:
        """Whether its picture is for reference only, and not shown."""


P = TypeVar("P", bound=Stamped)


@dataclass
class _Waiting(Generic[P]):
    """A packet that is not passed on yet."""

    packet: P
    time: float
    sample: bool = False
    decided: bool = False


@dataclass
class Picker(Generic[P]):
    """Passes on the packets that are to be decoded.

    Attributes:
        timeline: the clip's clock.
        unit: seconds of one unit of the packets' stamps.
        fresh_start: whether nothing after a packet refers to anything before it.
        packets: of pictures that are shown.
    """

    timeline: Timeline
    unit: float
    fresh_start: Callable[[P], bool]
    packets: int = 0
    _now: float = 0.0
    _delay: float | None = None
    _first_shown: float | None = None
    _times: dict[int, float] = field(default_factory=dict)
    _due: deque[float] = field(default_factory=deque)
    _flowing: bool = False

    def needed(self, packets: Iterable[P]) -> Iterator[tuple[P, bool]]:
        """Yield what is to be decoded until the clip is complete.

        Yields:
            Packets in their order, each with whether it may be skipped if no picture refers to it.
        """
        held: list[P] = []
        for one in self._decided(packets):
            if self._flowing and not one.sample:
                if self.fresh_start(one.packet):
                    held.clear()
                held.append(one.packet)
                continue
            if not self.fresh_start(one.packet):
                yield from ((packet, True) for packet in held)
            held.clear()
            yield one.packet, False

    def take(self, pts: int | None) -> float | None:
        """Return the clip time of a decoded picture if it is a sample, or stands in for one.

        Pictures come in the order in which they are shown. If a sample did not come out whole,
        the next picture takes its place.
        """
        self._flowing = True
        if not self._due:
            return None
        time = self._due[0] if pts is None else self._times.pop(pts, self._due[0])
        if time < self._due[0]:
            return None
        while self._due and self._due[0] <= time:
            self._due.popleft()
        return time

    def _decided(self, packets: Iterable[P]) -> Iterator[_Waiting[P]]:
        """Yield packets in their order once it is clear which are samples.

        That is a matter of the order in which pictures are shown: a packet waits until no later
        one can be shown before it.
        """
        queue: deque[_Waiting[P]] = deque()
        open_ones: list[_Waiting[P]] = []
        for packet in packets:
            if packet.is_discard:
                queue.append(_Waiting(packet, self._now, decided=True))
                continue
            self.packets += 1
            one = _Waiting(packet, self._place(packet))
            queue.append(one)
            bisect.insort(open_ones, one, key=lambda waiting: waiting.time)
            if self._delay is None and packet.pts is not None:
                continue
            delay = self._delay or 0.0
            self._decide(open_ones, self._now - delay + _EPSILON)
            while queue and queue[0].decided:
                yield queue.popleft()
            if self._now >= self.timeline.seconds + delay:
                break
        self._decide(open_ones, float("inf"))
        yield from queue

    def _decide(self, open_ones: list[_Waiting[P]], until: float) -> None:
        while open_ones and open_ones[0].time <= until:
            one = open_ones.pop(0)
            one.decided = True
            one.sample = self.timeline.wants(one.time)
            if one.sample:
                self._due.append(one.time)

    def _place(self, packet: P) -> float:
        """Return when a packet's picture is shown, in clip time."""
        shown = None if packet.pts is None else packet.pts * self.unit
        if self._first_shown is None:
            self._first_shown = shown
        decoded = shown if packet.dts is None else packet.dts * self.unit
        if self._delay is None and packet.dts is None and self.packets <= _MOST_WITHOUT_DTS:
            # Matroska does not say when the first packets of a stream with reordering are decoded.
            self._now = self.timeline.place(None)
            ahead = self._now if shown is None else shown - (self._first_shown or 0.0)
            time = max(0.0, min(ahead, self._now + _MAX_DELAY))
        else:
            time = self._follow(shown, decoded)
        if packet.pts is not None:
            if len(self._times) >= _REMEMBERED:
                del self._times[next(iter(self._times))]
            self._times.pop(packet.pts, None)
            self._times[packet.pts] = time
        return time

    def _follow(self, shown: float | None, decoded: float | None) -> float:
        """Move the clock by when packets are decoded, and return when this one is shown."""
        if self._delay is None and decoded is not None and self.packets > 1:
            self.timeline.expect(decoded)
        self._now = self.timeline.place(decoded)
        if shown is None or decoded is None:
            return self._now
        if self._delay is None:
            first = shown if self._first_shown is None else self._first_shown
            self._delay = _bounded(self._now - decoded + first)
        return max(0.0, self._now + _bounded(shown - decoded) - self._delay)


def _bounded(delay: float) -> float:
    return max(0.0, min(_MAX_DELAY, delay))
