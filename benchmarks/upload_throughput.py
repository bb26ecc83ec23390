"""Upload one large WAV through the ingest API and with boto3 itself, to the same S3, in one run.

Prints megabytes per second of both, their ratio, and the memory of the ingest process before and
at its peak. Exits 1 if its memory grows by more than 64 MiB or it is less than half as fast.

    python benchmarks/upload_throughput.py [--size-mib 1024] [--rounds 3]
"""

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import boto3
import httpx
import psutil
from botocore.config import Config

from headrace_local import control
from headrace_local.parts import Part
from headrace_local.ports import reserve_port
from headrace_local.state import StackState

MIB = 1024 * 1024
MAX_GROWTH_MIB = 64
MIN_RATIO = 0.5
SAMPLE_SECONDS = 0.01
READY_SECONDS = 30
WAV_RATE_HZ = 48_000
#: A file that repeats itself would flatter a server that stores equal blocks once.
_RANDOM_BLOCK_BYTES = 4 * MIB


def make_wav(path: Path, size: int) -> None:
    """Write a valid mono 16-bit WAV of `size` bytes, with noise in it."""
    data = size - 44
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 1, WAV_RATE_HZ, 2 * WAV_RATE_HZ, 2, 16,
        b"data", data,
    )  # fmt: skip
    noise = random.Random(0)  # noqa: S311 - sound, not a secret
    with path.open("wb") as file:
        file.write(header)
        while data:
            block = noise.randbytes(min(_RANDOM_BLOCK_BYTES, data))
            file.write(block)
            data -= len(block)


class MemorySampler:
    """Notes a process's resident memory while a block runs."""

    def __init__(self, pid: int) -> None:
        """Watch over process `pid`."""
        self._process = psutil.Process(pid)
        self.before_mib = self._now()
        self.peak_mib = self.before_mib

    def _now(self) -> float:
        return float(self._process.memory_info().rss) / MIB

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample until the block ends."""
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(SAMPLE_SECONDS):
                self.peak_mib = max(self.peak_mib, self._now())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def servers(directory: Path) -> Iterator[StackState]:
    """Run the real servers in a directory of their own."""
    control.up_detached(directory, parts=[Part.AUDIO], services=False, parent=os.getpid())
    try:
        yield control.require_running(directory)
    finally:
        control.down(directory)


@contextmanager
def ingest_api(state: StackState, log: Path) -> Iterator[tuple[str, int]]:
    """Run the service as a process of its own; yield its URL and pid."""
    port = reserve_port()
    url = f"http://127.0.0.1:{port}"
    env = {**os.environ, **state.env, "HOST": "127.0.0.1", "PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace_ingest_api"],
            env=env, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_ready(url, process, log)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the service is ready."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the ingest API did not get ready:\n{log.read_text()[-2000:]}")


class MultipartBody:
    """A multipart form around a file on disk, read as it is sent."""

    BOUNDARY = b"headrace-benchmark"
    CHUNK_BYTES = 1 * MIB

    def __init__(self, path: Path) -> None:
        """Send the file at `path`."""
        self._path = path
        self._head = (
            b"--" + self.BOUNDARY + b"\r\n"
            b'Content-Disposition: form-data; name="file"; filename="large.wav"\r\n\r\n'
        )
        self._tail = b"\r\n--" + self.BOUNDARY + b"--\r\n"

    @property
    def headers(self) -> dict[str, str]:
        """What describes the body."""
        length = len(self._head) + self._path.stat().st_size + len(self._tail)
        return {
            "Content-Type": f"multipart/form-data; boundary={self.BOUNDARY.decode()}",
            "Content-Length": str(length),
        }

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body."""
        yield self._head
        with self._path.open("rb") as file:
            while chunk := file.read(self.CHUNK_BYTES):
                yield chunk
        yield self._tail


def upload_through_api(client: httpx.Client, path: Path) -> None:
    """Upload with httpx, streaming from disk."""
    body = MultipartBody(path)
    answer = client.post("/tokens/bench/upload-audio", content=iter(body), headers=body.headers)
    answer.raise_for_status()
    if answer.json()["status"] not in {"queued", "queuing"}:
        raise SystemExit(f"unexpected answer: {answer.text}")


def upload_with_boto3(s3: Any, bucket: str, path: Path) -> None:
    """Upload as boto3 does by itself."""
    with path.open("rb") as file:
        stream: IO[bytes] = file
        s3.upload_fileobj(stream, bucket, "bench/boto3.wav")


def timed(call: Callable[[], None]) -> float:
    """Return the seconds that `call` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def clear_bucket(s3: Any, bucket: str) -> None:
    """Remove the uploads of a round, so that the disk holds one at a time."""
    for prefix in ("audio/", "bench/"):
        for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])


def run(directory: Path, size_mib: int, rounds: int) -> bool:
    """Measure, print the table, and return whether both limits hold."""
    path = directory / "large.wav"
    make_wav(path, size_mib * MIB)
    api_seconds: list[float] = []
    boto3_seconds: list[float] = []
    with (
        servers(directory / "stack") as state,
        ingest_api(state, directory / "ingest.log") as (url, pid),
        httpx.Client(
            base_url=url, timeout=600, headers={"Authorization": f"Bearer {state.api_key}"}
        ) as client,
    ):
        env = state.env
        s3 = boto3.client(
            "s3",
            endpoint_url=env["S3_ENDPOINT_URL"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=Config(
                request_checksum_calculation="when_required", s3={"addressing_style": "path"}
            ),
        )
        client.post("/tokens", json={"id": "bench"}).raise_for_status()
        memory = MemorySampler(pid)
        for _ in range(rounds):
            with memory.sampling():
                api_seconds.append(timed(lambda: upload_through_api(client, path)))
            boto3_seconds.append(timed(lambda: upload_with_boto3(s3, env["S3_BUCKET"], path)))
            clear_bucket(s3, env["S3_BUCKET"])
    return report(size_mib, api_seconds, boto3_seconds, memory)


def report(
    size_mib: int, api_seconds: list[float], boto3_seconds: list[float], memory: MemorySampler
) -> bool:
    """Print the medians, and return whether both limits hold."""
    megabytes = size_mib * MIB / 1e6
    api = megabytes / statistics.median(api_seconds)
    reference = megabytes / statistics.median(boto3_seconds)
    ratio, growth = api / reference, memory.peak_mib - memory.before_mib
    print(f"file                    {size_mib:8d} MiB, {len(api_seconds)} round(s), medians")
    print(f"through the ingest API  {api:8.1f} MB/s")
    print(f"boto3 upload_fileobj    {reference:8.1f} MB/s")
    print(f"ratio                   {ratio:8.2f}       (at least {MIN_RATIO})")
    print(f"memory before           {memory.before_mib:8.1f} MiB")
    print(f"memory at its peak      {memory.peak_mib:8.1f} MiB")
    print(f"growth                  {growth:8.1f} MiB   (at most {MAX_GROWTH_MIB})")
    return growth <= MAX_GROWTH_MIB and ratio >= MIN_RATIO


def main() -> int:
    """Run the benchmark as a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--rounds", type=int, default=1, help="uploads by each side")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as directory:
        path = Path(directory)
        path.chmod(0o711)  # PostgreSQL runs as another user where we are root
        return 0 if run(path, arguments.size_mib, arguments.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
