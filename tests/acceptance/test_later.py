"""Recordings whose analysis begins later, from the command line to the end of their jobs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stack_user import RECORDINGS, User

BOBBY = RECORDINGS / "bobby.wav"


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `--direct` remembers out of the developer's home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_a_recording_is_analysed_after_its_delay(user: User) -> None:
    token = user.token()
    printed = user.run("upload", BOBBY, "-t", token, "--delay", "1s", "--follow")
    assert "Recording stored and scheduled for 20" in printed
    assert "Its time has come" in printed
    assert "completed" in printed
    (job,) = user.run_json("jobs", "--token", token)["jobs"]
    timeline = user.run_json("job", job["job_id"])["timeline"]
    queued = next(event["created_at"] for event in timeline if event["status"] == "queued")
    late = datetime.fromisoformat(queued) - datetime.fromisoformat(job["run_at"])
    assert timedelta(0) <= late < timedelta(seconds=30)


@pytest.mark.parametrize("way", [(), ("--direct",)])
def test_a_job_that_begins_next_year_may_be_begun_now_or_cancelled(
    user: User, way: tuple[str, ...]
) -> None:
    at = f"{datetime.now(UTC) + timedelta(days=300):%Y-%m-%dT%H:%M:%SZ}"
    files = (BOBBY, RECORDINGS / "mary.wav")
    answers = user.run_json("upload", *files, "-t", user.token(), "--at", at, *way)
    now, never = (answer["job_id"] for answer in answers)
    shown = user.run("job", now)
    assert "scheduled" in shown
    assert f"Scheduled for {at[:10]}" in shown
    listed = user.run_json("jobs", "--status", "scheduled")["jobs"]
    assert {now, never} <= {job["job_id"] for job in listed}
    user.run("cancel", never)
    assert "The job is queued now" in user.run("retry", now)
    assert "completed" in user.run("watch", now)
    assert user.run_json("job", never)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--at", "soon"], 2, "--at"),
        (["--at", "2030-01-01", "--delay", "5"], 2, "do not go together"),
        (["--delay", "soon"], 4, "delay: "),
        (["--delay", "400d", "--direct"], 4, "365 days"),
    ],
)
def test_a_time_that_is_none_is_one_line_and_a_code(
    user: User, options: list[str], code: int, complaint: str
) -> None:
    assert complaint in user.run("upload", BOBBY, "-t", user.token(), *options, expect=code)
