"""A server goes away or loses everything while jobs are under way; every accepted job ends well.

`make test` runs it small; `make outages` with the figures of the promise: a thousand jobs, a
minute.
"""

import io
import os
import signal
import time
import wave
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from stack_user import RECORDINGS, User

from headrace_local.waiting import wait_until

JOBS = int(os.environ.get("HEADRACE_OUTAGE_JOBS", "40"))
SECONDS = float(os.environ.get("HEADRACE_OUTAGE_SECONDS", "6"))
#: Long enough for each of so many jobs to be analysed on a busy machine.
PATIENCE_SECONDS = 120 + JOBS * 0.6


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of speech: what is analysed matters less here than how often."""
    with wave.open(str(RECORDINGS / "bobby.wav")) as whole:
        parameters, frames = whole.getparams(), whole.readframes(whole.getframerate() // 2)
    short = io.BytesIO()
    with wave.open(short, "wb") as cut:
        cut.setparams(parameters)
        cut.writeframes(frames)
    path = tmp_path_factory.mktemp("recordings") / "short.wav"
    path.write_bytes(short.getvalue())
    return path


def upload_many(user: User, token: str, recording: Path, count: int) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: user.upload(token, recording), range(count))
        return [answer["job_id"] for answer in answers]


def outcomes(user: User, job_ids: list[str]) -> Counter[str]:
    """Return how many of the jobs are in each status, and fail on an effect that came twice."""
    with psycopg.connect(user.state.env["DATABASE_URL"]) as connection:
        statuses = connection.execute(
            "SELECT status, count(*) FROM jobs WHERE id = ANY(%s) GROUP BY status", [job_ids]
        ).fetchall()
        twice = connection.execute(
            "SELECT job_id FROM job_events WHERE job_id = ANY(%s) AND status = 'completed' "
            "AND type = 'status' GROUP BY job_id HAVING count(*) > 1",
            [job_ids],
        ).fetchall()
    assert not twice
    return Counter(dict(statuses))


def all_complete(user: User, job_ids: list[str]) -> None:
    wait_until(
        lambda: outcomes(user, job_ids),
        lambda seen: seen == {"completed": len(job_ids)},
        seconds=PATIENCE_SECONDS,
    )


@pytest.mark.timeout(PATIENCE_SECONDS + 180)
def test_redis_loses_everything_while_jobs_are_under_way(user: User, recording: Path) -> None:
    server = redis.Redis.from_url(
        user.state.env["REDIS_URL"], password=user.state.env["REDIS_PASSWORD"]
    )
    token = user.token()
    user.stack.kill("dispatcher", signal.SIGSTOP)
    try:
        waiting = upload_many(user, token, recording, JOBS)
        assert sum(server.llen(f"dramatiq:{lane}") for lane in ("audio_analysis",)) >= JOBS // 2
        server.flushall()
    finally:
        user.stack.kill("dispatcher", signal.SIGCONT)
    wait_until(lambda: outcomes(user, waiting)["completed"] > 0, seconds=PATIENCE_SECONDS)
    server.flushall()  # and again while they are dispatched, analysed and reported
    server.close()
    all_complete(user, waiting)


@pytest.mark.timeout(PATIENCE_SECONDS + SECONDS + 180)
def test_without_postgres_uploads_are_told_to_come_back_and_nothing_is_lost(
    user: User, recording: Path
) -> None:
    token = user.token()
    accepted = upload_many(user, token, recording, JOBS // 2)
    refusals: list[httpx.Response] = []
    slowest = 0.0
    user.stack.stop("postgres")
    try:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            refusals.append(_try_upload(user, token, recording))
            slowest = max(slowest, time.monotonic() - began)
    finally:
        user.stack.start("postgres")
    for refusal in refusals:
        assert refusal.status_code == 503, refusal.text
        assert refusal.headers["content-type"] == "application/problem+json"
        assert int(refusal.headers["retry-after"]) >= 1
    assert slowest < 20, "a refusal does not keep the client waiting"
    accepted.append(wait_until(_uploaded(user, token, recording), seconds=120))
    all_complete(user, accepted)


def _try_upload(user: User, token: str, recording: Path) -> httpx.Response:
    return user.ingest.post(
        f"/tokens/{token}/upload-audio", files={"file": ("a.wav", recording.read_bytes())}
    )


def _uploaded(user: User, token: str, recording: Path) -> Callable[[], str]:
    def once() -> str:
        answer = _try_upload(user, token, recording)
        return answer.json()["job_id"] if answer.is_success else ""

    return once
