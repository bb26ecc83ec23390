"""What the logs of the camera path do not say: this file is the last that uses its stack."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_yard import Yard
from leaks import leaks

from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until


@pytest.fixture
def yard(camera_stack: LocalStack, tmp_path: Path) -> Iterator[Yard]:
    made = Yard(camera_stack, tmp_path)
    yield made
    made.close()


def test_no_secret_is_in_the_logs(yard: Yard) -> None:
    """Of everything that was done on the stack before, and of cameras that have passwords."""
    password = f"pw{secrets.token_hex(12)}"
    guarded = yard.vod.replace("://", f"://operator:{password}@")
    ids = [
        yard.add(f"{yard.vod}?whatever={password}", sec=2),
        yard.add(f"{guarded}?whatever={password}", sec=2),
        yard.add(f"{guarded}/missing.m3u8?whatever={password}", sec=2, attempt=3),
        yard.add(f"ftp://operator:{password}@127.0.0.1/live.m3u8", sec=2),
    ]
    for url in (f"{guarded}/missing.m3u8?whatever={password}", f"http:{password}"):
        yard.worker.post("/api/v1/damage-detection/video", json={"url": url, "sec": 1})
        yard.user.ingest.post("/cctv/guarded/preprocess", json={"hls": url, "sec": 0})
    done = ids[0]
    wait_until(lambda: all(yard.is_final(each) for each in ids[:3]), seconds=180)
    job = yard.job(done)
    assert job is not None
    assert job["status"] == "completed"
    links = yard.user.results.get(f"/jobs/{done}/artifacts").json()
    assert "temp_url_sig=" in str(links)
    assert leaks(yard.stack, password_of_a_camera=password) == []
