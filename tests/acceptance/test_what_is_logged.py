"""What the logs of a whole run say and do not say: this file is the last that uses the stack."""

import json
from pathlib import Path

import httpx
import pytest
from leaks import leaks
from stack_user import RECORDINGS, User

from headrace_local.waiting import wait_until


def test_no_secret_is_in_the_logs(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of everything that was done on the stack before, and of what hands out signed URLs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = user.token()
    user.run("upload", "--direct", RECORDINGS / "bobby.wav", "-t", token, "--follow")
    (job,) = user.run_json("jobs", "--token", token)["jobs"]
    link = user.results.get(f"/jobs/{job['job_id']}/artifacts/plot").headers["location"]
    assert "X-Amz-Signature=" in link
    for url in user.state.endpoints.values():
        # What a client sends by mistake, where it does not belong.
        key = user.state.api_key or ""
        httpx.get(f"{url}/jobs/{key}", params={"token": key, "url": link}, timeout=60)
        httpx.post(f"{url}/webhooks/analysis", params={"token": key}, json={"key": key}, timeout=60)
    assert leaks(user.stack) == []


def test_one_trace_and_the_job_id_go_through_every_service(user: User) -> None:
    job_id = user.upload(user.token())["job_id"]
    wait_until(
        lambda: user.job(job_id)["status"], lambda status: status == "completed", seconds=120
    )
    trace = user.job(job_id)["trace_id"]
    expected = {
        "ingest-api": {"upload.ended", "http.request"},
        "dispatcher": {"dispatcher.job_sent"},
        "analysis-server": {"analysis.report_sent", "analysis.task_ended"},
        "results": {"report.received", "report.applied", "http.request"},
    }

    def missing() -> dict[str, set[str]]:
        left = {service: set(events) for service, events in expected.items()}
        for service, lines in user.log_lines().items():
            # The last one may not be written to its end.
            for told in map(json.loads, (line for line in lines if line.endswith("}"))):
                if told.get("job_id") == job_id:
                    assert told["trace_id"] == trace, told
                    left.get(service, set()).discard(told["event"])
        return left

    # Some of it is said after it is done.
    wait_until(missing, lambda left: not any(left.values()))
