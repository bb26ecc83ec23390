"""Where the entries of the job stream are: waiting, in work, put aside for a retry, or nowhere."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import redis

from headrace_common.contracts.cctv import (
    DELAYED_SUFFIX,
    REPORT_FIELD,
    REPORTS_SUFFIX,
    MalformedEntryError,
    PreprocessEntry,
)
from headrace_common.jobs.cameras import entry_order

_PAGE: Final = 1_000
#: Before the first entry of any stream.
_NOTHING: Final = "0-0"


class Whereabouts:
    """Asks Redis; an answer is true of the moment in which it was given.

    Every method raises redis.RedisError when the server is away.
    """

    def __init__(self, client: redis.Redis, *, stream: str, workers: str) -> None:
        """Ask of `stream` and of the group `workers`, which does the jobs."""
        self._client = client
        self._stream = stream
        self._workers = workers

    def done(self, entry_ids: Sequence[str]) -> set[str]:
        """Return the entries that the workers have acknowledged."""
        last = self._last_delivered()
        delivered = [each for each in entry_ids if entry_order(each) <= entry_order(last)]
        return set(delivered) - self._pending(delivered)

    def held(self, jobs: Mapping[str, str | None]) -> set[str]:
        """Return those jobs that wait for a worker, are in work, or have something to be told of.

        Args:
            jobs: each with the newest entry that is known of it, which is looked at first. Going
                through the whole stream is for the few that are not found by it.
        """
        if not jobs:
            return set()
        missing = set(jobs) - self._found_by_entry(jobs)
        # In this order: whoever moves from one place to the next meanwhile also reports.
        every = self._all_job_ids()
        while missing and (job_id := next(every, None)) is not None:
            missing.discard(job_id)
        return set(jobs) - missing

    def _found_by_entry(self, jobs: Mapping[str, str | None]) -> set[str]:
        known = {job_id: entry_id for job_id, entry_id in jobs.items() if entry_id}
        last = entry_order(self._last_delivered())
        waiting = [each for each in known.values() if entry_order(each) > last]
        with self._client.pipeline(transaction=False) as pipeline:
            for entry_id in waiting:
                pipeline.xrange(self._stream, entry_id, entry_id)
            there = dict(zip(waiting, pipeline.execute(), strict=True))
        pending = self._pending([each for each in known.values() if each not in there])
        return {
            job_id
            for job_id, entry_id in known.items()
            if there.get(entry_id) or entry_id in pending
        }

    def _pending(self, entry_ids: Sequence[str]) -> set[str]:
        if not entry_ids:
            return set()
        with self._client.pipeline(transaction=False) as pipeline:
            for entry_id in entry_ids:
                pipeline.xpending_range(self._stream, self._workers, entry_id, entry_id, 1)
            answers = pipeline.execute(raise_on_error=False)
        return {
            entry_id
            for entry_id, rows in zip(entry_ids, answers, strict=True)
            if _unless_missing(rows)
        }

    def _last_delivered(self) -> str:
        """Return the newest entry that the workers were given; before all where there are none."""
        groups: Any = _asked(lambda: self._client.xinfo_groups(self._stream)) or []
        for group in groups:
            if group["name"].decode() == self._workers:
                return str(group["last-delivered-id"].decode())
        return _NOTHING

    def _all_job_ids(self) -> Iterator[str]:
        yield from self._delayed_job_ids()
        yield from self._pending_job_ids()
        for _, fields in self._entries(self._stream, after=self._last_delivered()):
            yield from _job_id(fields)
        for _, fields in self._entries(f"{self._stream}{REPORTS_SUFFIX}", after=_NOTHING):
            yield from _reported_job_id(fields)

    def _delayed_job_ids(self) -> Iterator[str]:
        first = 0
        key = f"{self._stream}{DELAYED_SUFFIX}"
        while members := _any(self._client.zrange(key, first, first + _PAGE - 1)):
            for member in members:
                yield from _delayed_job_id(member)
            first += _PAGE

    def _pending_job_ids(self) -> Iterator[str]:
        after = "-"
        while rows := self._pending_page(after):
            ids = [row["message_id"].decode() for row in rows]
            with self._client.pipeline(transaction=False) as pipeline:
                for entry_id in ids:
                    pipeline.xrange(self._stream, entry_id, entry_id)
                for found in pipeline.execute():
                    for _, fields in found:
                        yield from _job_id(fields)
            after = f"({ids[-1]}"

    def _pending_page(self, after: str) -> Any:
        return _asked(
            lambda: self._client.xpending_range(self._stream, self._workers, after, "+", _PAGE)
        )

    def _entries(self, stream: str, *, after: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        while page := _any(self._client.xrange(stream, f"({after}", "+", count=_PAGE)):
            yield from page
            after = page[-1][0].decode()


def _any(answer: Any) -> Any:
    """Return an answer; redis-py's types allow for more than this client's settings do."""
    return answer


def _asked(ask: Callable[[], Any]) -> Any:
    """Ask; None where stream or group does not exist."""
    try:
        return ask()
    except redis.ResponseError as error:
        return _unless_missing(error)


def _unless_missing(answer: Any) -> Any:
    """Return an answer; None where it says that there is no such stream or group.

    Raises:
        redis.RedisError: it says something else.
    """
    if not isinstance(answer, redis.RedisError):
        return answer
    if isinstance(answer, redis.ResponseError) and str(answer).startswith(("NOGROUP", "no such")):
        return None
    raise answer


def _job_id(fields: Mapping[bytes, bytes]) -> Iterator[str]:
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        yield PreprocessEntry.parse(texts).job_id
    except (UnicodeDecodeError, MalformedEntryError):
        return  # no job of ours


def _delayed_job_id(member: bytes) -> Iterator[str]:
    try:
        yield str(json.loads(member)["fields"]["jobId"])
    except (ValueError, KeyError, TypeError):
        return


def _reported_job_id(fields: Mapping[bytes, bytes]) -> Iterator[str]:
    try:
        yield str(json.loads(fields[REPORT_FIELD.encode()])["job_id"])
    except (ValueError, KeyError, TypeError):
        return
