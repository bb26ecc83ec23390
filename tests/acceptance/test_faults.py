"""Things die while jobs are under way; every job still ends well, once."""

import pytest
from stack_user import User

from headrace_local.waiting import wait_until


@pytest.mark.parametrize(
    "victim",
    ["ingest-api", "dispatcher", "results", "analysis-server", "valkey", "s3", "postgres"],
)
def test_killing_one_loses_no_job(user: User, victim: str) -> None:
    token = user.token()
    ids = [user.upload(token)["job_id"] for _ in range(6)]
    user.stack.kill(victim)
    user.stack.wait_ready(victim)
    user.stack.wait_ready("ingest-api", "dispatcher", "results", "analysis-server")
    ids.append(wait_until(lambda: user.upload(token), seconds=30)["job_id"])

    def statuses() -> list[str]:
        return [user.job(job_id)["status"] for job_id in ids]

    wait_until(statuses, lambda seen: set(seen) == {"completed"}, seconds=240)
    for job_id in ids:
        events = user.results.get(f"/jobs/{job_id}/timeline").json()["events"]
        finals = [e for e in events if e["type"] == "status" and e["status"] == "completed"]
        assert len(finals) == 1
        assert [e["progress"] for e in events] == sorted(e["progress"] for e in events)


def test_restarting_sqs_loses_no_job(user: User) -> None:
    """Only its stop in good order: killed, the emulator forgets what came within a second."""
    token = user.token()
    ids = [user.upload(token)["job_id"] for _ in range(6)]
    user.stack.restart("sqs")
    wait_until(
        lambda: {user.job(job_id)["status"] for job_id in ids},
        lambda seen: seen == {"completed"},
        seconds=120,
    )
