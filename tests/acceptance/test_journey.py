"""A recording's whole way through the running stack, and what can be seen of it."""

import json
import struct
import wave
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from stack_user import RECORDINGS, User

from headrace_local.waiting import wait_until

FINAL = ("completed", "failed", "cancelled")


def test_a_recording_is_compared_with_its_reference(user: User, tmp_path: Path) -> None:
    token = user.token()
    pitch = tmp_path / "pitch.json"
    pitch.write_text(
        json.dumps({"times": [0.3, 0.6, 0.9, 1.2], "frequencies": [120, 150, 130, 100]})
    )
    user.run(
        *("tokens", "update", token, "--title", "Mary"),
        *("--textgrid", RECORDINGS / "mary.TextGrid", "--pitch", pitch),
    )
    printed = user.run("upload", RECORDINGS / "bobby.wav", "--token", token, "--follow")
    for status in ("uploading", "queuing", "queued", "processing", "queued_for_analysis"):
        assert status in printed
    job = user.run_json("jobs", "--token", token)["jobs"][0]
    assert (job["status"], job["progress"]) == ("completed", 100)
    result = job["result"]
    assert 70 < result["pitch"]["median_hz"] < 140
    assert [word["label"] for word in result["comparison"]["intervals"]] == [
        *("mary", "rolled", "the", "barrel")
    ]
    plot = user.results.get(f"/jobs/{job['job_id']}/artifacts/plot", follow_redirects=True)
    assert plot.content.startswith(b"\x89PNG")
    recording = user.results.get(
        f"/jobs/{job['job_id']}/artifacts/recording", follow_redirects=True
    )
    assert recording.content == (RECORDINGS / "bobby.wav").read_bytes()


@pytest.mark.parametrize(
    ("name", "samples", "status"),
    [
        ("silence", [0] * 16_000, "completed"),
        ("a tenth of a second", [8_000, -8_000] * 800, "completed"),
    ],
)
def test_odd_recordings_end_with_a_readable_word(
    user: User, tmp_path: Path, name: str, samples: list[int], status: str
) -> None:
    path = tmp_path / "odd.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    job_id = user.upload(user.token(), path)["job_id"]
    job = wait_until(lambda: user.job(job_id), lambda job: job["status"] in FINAL, seconds=120)
    assert job["status"] == status, name
    assert job["result"]["pitch"] is None or job["result"]["warnings"] == []


def said(client: httpx.Client, url: str) -> dict[str, Any]:
    told: dict[str, Any] = client.get(url).json()
    return told


@pytest.fixture
def stranger() -> Iterator[httpx.Client]:
    # Without keeping a connection, which the server may close just when it is used again.
    with httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


def test_every_service_is_healthy_measured_and_closed(user: User, stranger: httpx.Client) -> None:
    for name in ("ingest_url", "results_url", "dispatcher_url", "analysis_url"):
        url = user.state.endpoints[name]
        for path in ("/health", "/health/live", "/health/ready"):
            # Another test may have let it lose a server just now.
            wait_until(partial(said, stranger, url + path), lambda seen: seen["status"] == "ok")
        metrics = stranger.get(f"{url}/metrics").text
        assert "headrace_http_request_duration_seconds" in metrics
    open_paths = {"/health", "/health/live", "/health/ready", "/metrics"}
    for name in ("ingest_url", "results_url", "dispatcher_url"):
        url = user.state.endpoints[name]
        for path, methods in said(stranger, f"{url}/openapi.json")["paths"].items():
            for method in set(methods) - ({"get"} if path in open_paths else set()):
                asked = url + path.replace("{", "").replace("}", "")
                answer = stranger.request(method, asked)
                assert answer.status_code == 401, f"{method} {path}"
                assert answer.headers["content-type"] == "application/problem+json"
