"""Plays the Java producer and the gpu-preprocessor on a real Redis."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
from results_harness import settings_of

from headrace_common.contracts.cctv import (
    DEFAULT_GROUP,
    DELAYED_SUFFIX,
    REPORTS_SUFFIX,
    CctvReport,
    CctvState,
    PreprocessEntry,
)
from headrace_common.contracts.schedules import RECOVER_CAMERA_JOBS
from headrace_common.repeat import Repeater
from headrace_common.shifts import Shifts
from headrace_results.process import ResultsProcess

HLS = "https://camera:pass-word@cam.example.org/live.m3u8?token=se-cret"


def entry(camera: str | None = None, **changes: str) -> dict[str, str]:
    """Return the fields of an entry as the Java producer writes them."""
    return {
        "cctvId": camera or f"cam-{uuid.uuid4().hex[:8]}",
        "hls": HLS,
        "sec": "20",
        "attempt": "0",
        "enqueuedAt": str(time.time_ns() // 1_000_000),
        **changes,
    }


def report(
    fields: dict[str, str], entry_id: str, state: CctvState | str, **changes: Any
) -> dict[str, str]:
    """Return a report of the gpu-preprocessor as fields of the reports' stream."""
    parsed = PreprocessEntry.parse(fields)
    values: dict[str, Any] = {
        "job_id": parsed.job_id,
        "entry": parsed.fields(),
        "entry_id": entry_id,
        "state": state,
        "message": f"{state}",
        "consumer": "worker-1",
        "at": datetime.now(UTC),
    }
    return CctvReport.model_validate({**values, **changes}).stream_fields({})


def result(job_id: str, camera: str, **changes: Any) -> dict[str, Any]:
    """Return the result of a completed job."""
    folder = f"preprocess/{camera}/{job_id}/20261122T103000.123Z/"
    names = (
        ("background.jpg", "image/jpeg"),
        ("background_meta.json", "application/json"),
        ("damage_analysis.json", "application/json"),
        ("damage_result.jpg", "image/jpeg"),
        ("process_meta.json", "application/json"),
    )
    return {
        "storage_url": "http://127.0.0.1:8080/v1/AUTH_test",
        "container": "cctv-preprocess",
        "folder": folder,
        "artifacts": {
            name: {
                "object": folder + name,
                "sha256": f"{number:064x}",
                "bytes": 100 + number,
                "content_type": kind,
            }
            for number, (name, kind) in enumerate(names)
        },
        "quality": 0.93,
        "damages": 3,
        "damages_by_class": {"D00": 1, "D40": 2},
        "damaged_share": 0.012,
        "worst_severity": "high",
        **changes,
    }


@dataclass
class Streams:
    """The two streams, and the group of the workers."""

    client: Any
    name: str = field(default_factory=lambda: f"stream:{uuid.uuid4().hex[:8]}")

    @property
    def reports(self) -> str:
        return self.name + REPORTS_SUFFIX

    def add(self, fields: dict[str, str]) -> str:
        added: Any = self.client.xadd(self.name, dict(fields))
        return str(added.decode())

    def report(self, *args: Any, **changes: Any) -> None:
        self.client.xadd(self.reports, dict(report(*args, **changes)))

    def make_workers(self) -> None:
        with suppress(redis.ResponseError):
            self.client.xgroup_create(self.name, DEFAULT_GROUP, id="0", mkstream=True)

    def work(self, count: int = 1) -> list[str]:
        """Let a worker take entries up, and return their ids."""
        self.make_workers()
        answer: Any = self.client.xreadgroup(
            DEFAULT_GROUP, "worker-1", {self.name: ">"}, count=count
        )
        return [row[0].decode() for _, rows in answer for row in rows]

    def acknowledge(self, entry_id: str) -> None:
        self.client.xack(self.name, DEFAULT_GROUP, entry_id)

    def delay(self, entry_id: str, fields: dict[str, str]) -> None:
        """Put an entry aside for its retry, as the preprocessor's script does."""
        member = json.dumps({"from": entry_id, "fields": fields})
        self.client.zadd(self.name + DELAYED_SUFFIX, {member: time.time() * 1_000 + 3_600_000})
        self.acknowledge(entry_id)

    def entries(self) -> list[tuple[str, dict[str, str]]]:
        rows: Any = self.client.xrange(self.name)
        return [
            (
                row[0].decode(),
                {k.decode(errors="replace"): v.decode(errors="replace") for k, v in row[1].items()},
            )
            for row in rows
        ]

    def job_ids(self) -> list[str]:
        return [PreprocessEntry.parse(fields).job_id for _, fields in self.entries()]

    def pending(self, stream: str, group: str = "results") -> int:
        with suppress(redis.ResponseError):
            summary: Any = self.client.xpending(stream, group)
            return int(summary["pending"])
        return 0

    def is_taken_in(self) -> bool:
        """Whether the results service has read and acknowledged all there is."""
        groups: Any = self.client.xinfo_groups(self.name)
        ours = [group for group in groups if group["name"] == b"results"]
        return bool(ours) and all(
            group["last-delivered-id"] == (self.entries() or [("0-0", {})])[-1][0].encode()
            and group["pending"] == 0
            for group in ours
        )


@contextmanager
def in_process(env: dict[str, str], **changes: str) -> Iterator[ResultsProcess]:
    """Run the threads of a replica in this process: all of it but the HTTP side."""
    replica = ResultsProcess(settings_of({**env, **changes}))
    replica._start_threads()
    try:
        yield replica
    finally:
        replica._stop_threads()
        replica._close()


@contextmanager
def recovering(*replicas: ResultsProcess) -> Iterator[None]:
    """Stand for the schedules: have camera jobs be recovered again and again, by all at once."""
    shifts = Shifts(seconds=60)

    def recover(replica: ResultsProcess) -> float:
        assert replica._cameras is not None
        replica._cameras.chores()[RECOVER_CAMERA_JOBS](shifts.begin())
        return 0.1

    repeaters = [
        Repeater(f"recover-{number}", partial(recover, replica))
        for number, replica in enumerate(replicas)
    ]
    for repeater in repeaters:
        repeater.start()
    try:
        yield
    finally:
        shifts.ask_to_stop()
        for repeater in repeaters:
            repeater.ask_to_stop()
        for repeater in repeaters:
            repeater.join(timeout_seconds=10)
