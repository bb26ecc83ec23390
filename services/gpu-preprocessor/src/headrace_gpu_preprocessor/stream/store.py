"""The stream as the consumer sees it: a thin asynchronous shell over the scripts."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import redis
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace_common.telemetry import current_trace
from headrace_common.telemetry.messaging import MessagingSystem, sending
from headrace_gpu_preprocessor.stream.deliveries import (
    AnyFields,
    Claimed,
    Delivery,
    Hold,
    Look,
    Promoted,
    Refusal,
)
from headrace_gpu_preprocessor.stream.errors import LeaseLostError
from headrace_gpu_preprocessor.stream.scripts import Scripts
from headrace_gpu_preprocessor.stream.settings import HANDED_BACK, StreamSettings

#: Idle enough for any visibility timeout: ten years.
_LONG_IDLE_MS: Final = 10 * 365 * 86_400 * 1_000
#: Entries that one call puts back into the stream; a call must not hold the server up.
_PROMOTE_BATCH: Final = 100


class StreamStore:
    """Commands on the stream, its group and its companions, for one consumer.

    Every method raises redis.RedisError or OSError when the server does not answer or refuses;
    a script that was sent may have run then.
    """

    def __init__(self, client: Redis, settings: StreamSettings) -> None:
        """Send commands through `client`."""
        self._client = client
        self._settings = settings
        self._stream = settings.redis_stream
        self._group = settings.redis_group
        self._consumer = settings.consumer_name
        self._scripts = Scripts.register(client)

    async def ensure_group(self) -> bool:
        """Make the group, and the stream, where they are missing; whether they were.

        The group begins with the oldest entry: whatever was added before it counts.
        """
        try:
            await self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if str(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    async def claim(
        self, *, count: int, running: Iterable[str], idle_seconds: float, own: bool = False
    ) -> Claimed:
        """Take pending entries over that were not renewed for `idle_seconds`.

        Args:
            count: at most.
            running: ids that this process works on, which are left alone.
            idle_seconds: since the last renewal.
            own: only those that are this consumer's already.
        """
        whose = "own" if own else "any"
        args = [*self._who, round(idle_seconds * 1_000), count, whose, *running]
        keys = [self._stream, self._settings.paused_key]
        rows, deleted = await self._run(self._scripts.claim, keys, args)
        return Claimed([_delivery(*row) for row in rows], [each.decode() for each in deleted])

    async def renew(self, holds: Sequence[Hold]) -> set[str]:
        """Renew leases; return the ids of those that are not ours any more."""
        pairs = [part for hold in holds for part in (hold.entry_id, hold.delivery)]
        lost = await self._run(self._scripts.renew, [self._stream], [*self._who, *pairs])
        return {each.decode() for each in lost}

    async def begin(self, hold: Hold, job_id: str, *, run: int = 1) -> Refusal | None:
        """Note that work on a job begins, where it may.

        Returns:
            None if it may; else why not.

        Raises:
            LeaseLostError: the entry is not ours any more.
        """
        settings = self._settings
        keys = [self._stream, settings.running_key, settings.cancelled_key, settings.paused_key]
        # A run that is asked for while an earlier one is worked on is no duplicate of it.
        name = job_id if run == 1 else f"{job_id} run {run}"
        answer: bytes = await self._run(
            self._scripts.begin, keys, [*self._delivery_args(hold), job_id, run, name]
        )
        match answer.decode():
            case "begun":
                return None
            case "lost":
                raise LeaseLostError(f"entry {hold.entry_id} is worked on elsewhere")
            case (Refusal.CANCELLED | Refusal.PAUSED) as told:
                return Refusal(told)
            case _:
                return Refusal.DUPLICATE

    async def look(self, jobs: Iterable[tuple[Hold, str, int]]) -> Look:
        """Ask what has become of the stream, and of the deliveries that are worked on.

        Args:
            jobs: each delivery with its job's id and run.
        """
        settings = self._settings
        keys = [self._stream, settings.paused_key, settings.cancelled_key]
        told = [
            part
            for hold, job_id, run in jobs
            for part in (hold.entry_id, hold.delivery, job_id, run)
        ]
        paused, cancelled, lost = await self._run(self._scripts.look, keys, [*self._who, *told])
        return Look(
            None if paused is None else paused.decode(errors="replace"),
            frozenset(each.decode() for each in cancelled),
            frozenset(each.decode() for each in lost),
        )

    async def finish(self, hold: Hold, report: Mapping[str, str]) -> bool:
        """Acknowledge a job that is done; whether it was ours to do so."""
        with self._telling(report) as told:
            args = [*self._delivery_args(hold), *_flat(told)]
            return bool(await self._run(self._scripts.finish, self._keys(), args))

    async def retry(
        self,
        hold: Hold,
        fields: Mapping[str, str],
        *,
        delay_seconds: float,
        report: Mapping[str, str],
    ) -> bool:
        """Put an entry with new `fields` aside for `delay_seconds`; whether it was ours."""
        member = json.dumps({"from": hold.entry_id, "fields": dict(fields)}, ensure_ascii=False)
        delay_ms = round(delay_seconds * 1_000)
        keys = self._keys(self._settings.delayed_key)
        with self._telling(report) as told:
            args = [*self._delivery_args(hold), delay_ms, member, *_flat(told)]
            return bool(await self._run(self._scripts.retry, keys, args))

    async def bury(self, hold: Hold, letter: AnyFields, report: Mapping[str, str]) -> bool:
        """Move an entry to the dead letters; whether it was ours to do so.

        Args:
            hold: the delivery.
            letter: fields of the dead letter.
            report: fields of the report, none to leave it out.
        """
        flat = _flat(letter)
        keys = self._keys(self._settings.redis_dlq_stream)
        with self._telling(report) as told:
            args = [*self._delivery_args(hold), len(flat), *flat, *_flat(told)]
            return bool(await self._run(self._scripts.bury, keys, args))

    async def hand_back(self, hold: Hold) -> bool:
        """Leave an entry to whoever is next, uncounted; whether it was ours to do so.

        It stays pending, with nobody.
        """
        args = [*self._delivery_args(hold), HANDED_BACK, _LONG_IDLE_MS]
        return bool(await self._run(self._scripts.hand_back, [self._stream], args))

    async def promote(self) -> Promoted:
        """Put entries whose retry is due back into the stream, a batch of them."""
        settings = self._settings
        keys = [self._stream, settings.delayed_key, settings.redis_dlq_stream, settings.paused_key]
        args = [
            _PROMOTE_BATCH,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            self._consumer,
        ]
        moved, buried, wait_ms = await self._run(self._scripts.promote, keys, args)
        return Promoted(moved, buried, None if wait_ms < 0 else wait_ms / 1_000)

    async def trim(self) -> int:
        """Drop what every group is done with, of the entries and of the reports; how many.

        Reports without any reader are kept up to the cap.
        """
        settings = self._settings
        entries = await self._run(self._scripts.trim, [self._stream], [-1])
        args = [settings.redis_report_cap]
        reports = await self._run(self._scripts.trim, [settings.reports_stream], args)
        return int(entries) + int(reports)

    async def forget_ended(self) -> int:
        """Forget which entries were worked on, of jobs that have ended; how many."""
        keys = [self._stream, self._settings.running_key]
        return int(await self._run(self._scripts.forget, keys, [self._group]))

    async def forget_cancelled(self) -> int:
        """Forget jobs that were cancelled long ago; how many."""
        age_ms = round(self._settings.redis_cancelled_seconds * 1_000)
        keys = [self._settings.cancelled_key]
        return int(await self._run(self._scripts.forget_cancelled, keys, [age_ms]))

    async def take_settled(self, *, count: int, again_seconds: float) -> list[bytes]:
        """Take jobs that have ended, to remove what they left in Swift.

        Args:
            count: at most.
            again_seconds: until others may take them, unless they are `drop_settled` before.
        """
        args = [count, round(again_seconds * 1_000)]
        keys = [self._settings.settled_key]
        return list(await self._run(self._scripts.take_settled, keys, args))

    async def drop_settled(self, member: bytes, *, purged: str | None = None) -> None:
        """Note that nothing is left of a job but its result, or nothing of a purged one at all.

        Args:
            member: that tells of the job.
            purged: its id, where it is one.
        """
        async with self._client.pipeline(transaction=True) as pipeline:
            if purged is not None:
                pipeline.zadd(self._settings.purged_key, {purged: time.time_ns() // 1_000_000})
            pipeline.zrem(self._settings.settled_key, member)
            await pipeline.execute()

    async def suspect(self, job_id: str) -> None:
        """Note that we may have stored something of a job whose entry was another's by then."""
        await self._client.sadd(self._settings.suspects_key, job_id)

    async def retire_consumers(self, *, idle_seconds: float) -> list[str]:
        """Remove consumers that are long gone and hold nothing; return their names."""
        args = [*self._who, round(idle_seconds * 1_000)]
        removed = await self._run(self._scripts.retire, [self._stream], args)
        return [name.decode(errors="replace") for name in removed]

    async def report(self, report: Mapping[str, str]) -> bool:
        """Add a report on progress; False where too many wait to be read."""
        settings = self._settings
        with self._telling(report) as told:
            args = [settings.redis_report_cap, *_flat(told)]
            return bool(await self._run(self._scripts.report, [settings.reports_stream], args))

    async def unblock(self, client_id: int) -> None:
        """End the blocking read of another connection, as if its time were over."""
        await self._client.client_unblock(client_id)

    async def disconnect(self) -> None:
        """Close idle connections: after a failover they lead to a server that is a replica now."""
        await self._client.connection_pool.disconnect(inuse_connections=False)

    @contextmanager
    def _telling(self, report: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """Trace the sending of a report; what is sent carries that on."""
        if not report:
            yield report
            return
        came = {name: report[name] for name in ("traceparent", "tracestate") if name in report}
        with sending(MessagingSystem.STREAM, self._settings.reports_stream, came):
            yield {**report, **current_trace()}

    async def _run(self, script: AsyncScript, keys: list[str], args: list[Any]) -> Any:
        try:
            return await script(keys=keys, args=args)
        except redis.ResponseError as error:
            if isinstance(error, redis.ReadOnlyError | redis.exceptions.MasterDownError):
                await self.disconnect()
            raise

    @property
    def _who(self) -> list[str]:
        return [self._group, self._consumer]

    def _delivery_args(self, hold: Hold) -> list[str | int]:
        return [*self._who, hold.entry_id, hold.delivery]

    def _keys(self, *more: str) -> list[str]:
        return [self._stream, self._settings.reports_stream, *more]


def _flat(fields: AnyFields) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


def _delivery(entry_id: bytes, number: int, flat: Sequence[bytes]) -> Delivery:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Delivery(Hold(entry_id.decode(), number), fields)
