"""What the outside world was promised, on disk before anything else happens.

One line of JSON an entry, each flushed to the disk, so that a driver that crashes, or is killed,
leaves all that it had been told.
"""

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from headrace_common.contracts import JobKind, JobStatus


class Entry(StrEnum):
    """Kinds of entries."""

    ASKED = "asked"  #: a request was sent for the first time
    ACCEPTED = "accepted"  #: and answered: the job is promised
    ADDED = "added"  #: an entry of the stream, as the Java producer adds it
    REFUSED = "refused"  #: answered for good, without a job
    UNANSWERED = "unanswered"  #: given up on: it may have made a job, or not
    CANCEL = "cancel"
    RETRY = "retry"
    FOLLOWED = "followed"
    REPLAYED = "replayed"  #: a report was sent once more
    FLUSHED = "flushed"  #: Redis was emptied: `entries` were nowhere but there


class Verdict(StrEnum):
    """What became of a cancel or a retry that was asked for."""

    GRANTED = "granted"
    REFUSED = "refused"
    UNKNOWN = "unknown"  #: no answer: it may have been done


@dataclass(frozen=True)
class Deed:
    """A cancel or a retry."""

    what: Entry
    verdict: Verdict


@dataclass(frozen=True)
class Seen:
    """What one client saw on an event stream.

    Attributes:
        events: sequence, type, status; in the order they came.
        ended: whether the stream told it that nothing follows.
    """

    job_id: str
    events: tuple[tuple[int, str, str], ...]
    ended: bool


@dataclass
class Promise:
    """A job that somebody was told is accepted.

    Attributes:
        item: number in the plan.
        kind: audio or camera.
        natural_end: how it ends where nobody interferes.
        key: of the request, where it had one.
        token: of a recording.
        lane: of a recording.
        sha256: of the recording.
        md5: of the recording.
        seconds: its length.
        camera: id of the camera.
        entry_ids: of the entries added for it.
        deeds: in the order they were done.
    """

    job_id: str
    item: int
    kind: JobKind
    natural_end: JobStatus
    key: str | None = None
    token: str | None = None
    lane: str | None = None
    sha256: str | None = None
    md5: str | None = None
    seconds: float | None = None
    camera: str | None = None
    entry_ids: set[str] = field(default_factory=set)
    deeds: list[Deed] = field(default_factory=list)

    @property
    def ends(self) -> frozenset[JobStatus]:
        """The final states that it may be in."""
        ends = {self.natural_end}
        for deed in self.deeds:
            wanted = JobStatus.CANCELLED if deed.what is Entry.CANCEL else self.natural_end
            if deed.verdict is Verdict.GRANTED:
                ends = {wanted}
            elif deed.verdict is Verdict.UNKNOWN:
                ends.add(wanted)
        return frozenset(ends)

    @property
    def runs(self) -> range:
        """The runs that it may be in."""
        verdicts = [deed.verdict for deed in self.deeds if deed.what is Entry.RETRY]
        surely = verdicts.count(Verdict.GRANTED)
        return range(1 + surely, 2 + surely + verdicts.count(Verdict.UNKNOWN))


@dataclass
class Promises:
    """All that the ledger says, by job.

    Attributes:
        jobs: by id.
        rivals: further ids that one request was answered with, by the first id.
        unanswered: SHA-256 of recordings, and ids of cameras and jobs, of whose acceptance nobody
            knows.
        flushed: ids of entries that went with Redis before anybody else had them.
        seen: what those saw that followed.
    """

    jobs: dict[str, Promise] = field(default_factory=dict)
    rivals: dict[str, set[str]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    flushed: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[dict[str, Any]]) -> "Promises":
        """Read what the ledger's entries say."""
        promises = cls()
        by_key: dict[str, str] = {}
        for entry in entries:
            promises._take(entry, by_key)
        return promises

    def is_excused(self, promise: Promise) -> bool:
        """Whether all that ever said of it went with Redis: an entry is on no other disk yet."""
        return bool(promise.entry_ids) and promise.entry_ids <= self.flushed

    def _take(self, entry: dict[str, Any], by_key: dict[str, str]) -> None:
        match Entry(entry["what"]):
            case Entry.ACCEPTED:
                self._accept(entry, by_key)
            case Entry.ADDED:
                self._accept(entry, by_key)
                self.jobs[entry["job_id"]].entry_ids.add(entry["entry_id"])
            case Entry.UNANSWERED:
                told = (entry.get(name) for name in ("sha256", "camera", "job_id"))
                self.unanswered.add(next(each for each in told if each))
            case Entry.CANCEL | Entry.RETRY as what:
                deed = Deed(what, Verdict(entry["verdict"]))
                if promise := self.jobs.get(entry["job_id"]):
                    promise.deeds.append(deed)
            case Entry.FOLLOWED:
                events = tuple(
                    (int(n), str(kind), str(status)) for n, kind, status in entry["events"]
                )
                self.seen.append(Seen(entry["job_id"], events, ended=entry["ended"]))
            case Entry.FLUSHED:
                self.flushed.update(entry["entries"])
            case Entry.ASKED | Entry.REFUSED | Entry.REPLAYED:
                pass

    def _accept(self, entry: dict[str, Any], by_key: dict[str, str]) -> None:
        job_id = entry["job_id"]
        first = by_key.setdefault(entry.get("key") or job_id, job_id)
        if job_id != first:
            self.rivals.setdefault(first, set()).add(job_id)
        told: dict[str, Any] = {
            name: entry.get(name)
            for name in ("key", "token", "lane", "sha256", "md5", "seconds", "camera")
        }
        self.jobs.setdefault(
            job_id,
            Promise(
                job_id=job_id,
                item=entry["item"],
                kind=JobKind(entry["kind"]),
                natural_end=JobStatus(entry["natural_end"]),
                **told,
            ),
        )


class Ledger:
    """The file. Any thread may write; what `note` returned from is on the disk."""

    def __init__(self, path: Path) -> None:
        """Open it, and go on at its end if it is there."""
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("ab")

    def note(self, what: Entry, **facts: Any) -> None:
        """Write one entry."""
        line = json.dumps({"at": time.time(), "what": what, **facts}).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def entries(self) -> Iterator[dict[str, Any]]:
        """Read all entries; a last line that a crash cut off is left out."""
        return read_entries(self.path)

    def promises(self) -> Promises:
        """Return what it says by now."""
        return Promises.of(self.entries())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Read the entries of a ledger; a last line that a crash cut off is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
