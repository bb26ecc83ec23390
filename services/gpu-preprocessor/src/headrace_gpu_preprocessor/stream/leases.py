"""Leases: an entry is ours as long as it is certain that nobody can have taken it over."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import redis
import structlog

from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.deliveries import Hold
from headrace_gpu_preprocessor.stream.errors import LeaseLostError
from headrace_gpu_preprocessor.stream.store import StreamStore

log = structlog.get_logger()

#: Renewals within one visibility timeout, and tries after one that failed.
_RENEWALS: Final = 3
_TRIES: Final = 12
_LONGEST_TRY_PAUSE_SECONDS: Final = 5.0


class Lease:
    """Our hold on one delivery. Read from any thread, written on the event loop."""

    def __init__(self, hold: Hold, *, visibility_seconds: float, since: float) -> None:
        """Make it.

        Args:
            hold: the delivery.
            visibility_seconds: how long it stays ours after each renewal.
            since: monotonic time at which it was ours for certain: when the command was sent
                that the server answered with it, not when the answer came.
        """
        self.hold = hold
        self._visibility = visibility_seconds
        self._since = since
        self._lost = False

    @property
    def seconds_left(self) -> float:
        """How long it is certain yet; negative when it is not."""
        return self._since + self._visibility - time.monotonic()

    @property
    def is_lost(self) -> bool:
        """Whether the server said that it is not ours."""
        return self._lost

    def renewed(self, since: float) -> None:
        """Note that it was ours at `since`."""
        self._since = max(self._since, since)

    def adopt(self, hold: Hold, *, since: float) -> bool:
        """Take a delivery for this one where nothing tells them apart; whether that is so."""
        same = hold == self.hold and not self._lost
        if same:
            self.renewed(since)
        return same

    def lose(self) -> None:
        """Note that it is not ours any more."""
        self._lost = True

    def check(self) -> None:
        """Return while the entry is certainly ours.

        Raises:
            LeaseLostError: it is another's, or it could be.
        """
        if self._lost:
            raise LeaseLostError(f"entry {self.hold.entry_id} is worked on elsewhere")
        if self.seconds_left <= 0:
            raise LeaseLostError(
                f"entry {self.hold.entry_id} could not be renewed for {self._visibility:g} s"
            )


class LeaseKeeper:
    """Renews every lease, on a connection of its own so that nothing stands in its way."""

    def __init__(self, store: StreamStore, *, visibility_seconds: float) -> None:
        """Renew through `store`, three times as often as `visibility_seconds` needs."""
        self._store = store
        self._visibility = visibility_seconds
        self._leases: dict[str, Lease] = {}

    def hold(self, hold: Hold, *, since: float) -> Lease:
        """Renew this delivery from now on; see `Lease` for `since`."""
        lease = Lease(hold, visibility_seconds=self._visibility, since=since)
        self._leases[hold.entry_id] = lease
        return lease

    def release(self, lease: Lease) -> None:
        """Renew it no longer."""
        if self._leases.get(lease.hold.entry_id) is lease:
            del self._leases[lease.hold.entry_id]

    async def confirm(self, lease: Lease) -> None:
        """Renew one that was long on its way here, until the server has said whose it is.

        Raises:
            LeaseLostError: it is another's.
        """
        while lease.seconds_left < self._visibility * 2 / 3 and not lease.is_lost:
            if not await self._try_to_renew([lease]):
                await asyncio.sleep(self._try_pause)
        lease.check()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            renewed = await self._try_to_renew(self._leases.values())
            await asyncio.sleep(self._visibility / _RENEWALS if renewed else self._try_pause)

    @property
    def _try_pause(self) -> float:
        return min(self._visibility / _TRIES, _LONGEST_TRY_PAUSE_SECONDS)

    async def _try_to_renew(self, leases: Iterable[Lease]) -> bool:
        """Renew once; whether the server answered."""
        renewed = [lease for lease in leases if not lease.is_lost]
        if not renewed:
            return True
        since = time.monotonic()
        try:
            lost = await self._store.renew([lease.hold for lease in renewed])
        except (redis.RedisError, OSError) as error:
            log.warning("stream.renewal_failed", leases=len(renewed), error=str(error))
            metrics.RENEWALS.labels(outcome="failed").inc(len(renewed))
            return False
        for lease in renewed:
            if lease.hold.entry_id in lost:
                self._lose(lease)
            else:
                lease.renewed(since)
        metrics.RENEWALS.labels(outcome="renewed").inc(len(renewed) - len(lost))
        return True

    def _lose(self, lease: Lease) -> None:
        if self._leases.get(lease.hold.entry_id) is not lease:
            return  # ended while the renewal was on its way
        lease.lose()
        metrics.RENEWALS.labels(outcome="lost").inc()
        log.warning("stream.lease_lost", entry_id=lease.hold.entry_id, delivery=lease.hold.delivery)
