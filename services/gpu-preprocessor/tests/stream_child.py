"""A consumer in a process of its own, which tests kill: python stream_child.py, set by environment.

What a job's camera is called decides what its handler does.
"""

import os
import signal
import threading

import redis
from stream_harness import no_guard, result_of

from headrace_common.contracts.cctv import CctvResult
from headrace_gpu_preprocessor.stream import LeasedJob, StreamConsumer, StreamSettings


def main() -> None:
    settings = StreamSettings.load()
    client: redis.Redis = redis.Redis.from_url(settings.redis_url_with_password(), protocol=2)
    begun, done = f"{settings.redis_stream}:begun", f"{settings.redis_stream}:done"

    def handle(job: LeasedJob) -> CctvResult:
        client.rpush(begun, job.job_id)
        if job.entry.cctv_id == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        while job.entry.cctv_id == "slow" and os.environ.get("HANG"):
            job.check()
            threading.Event().wait(0.02)
        client.rpush(done, job.job_id)
        return result_of(job)

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    consumer = StreamConsumer(settings, handle, no_guard())
    consumer.start()
    stopped.wait()
    consumer.stop(grace_seconds=5)


if __name__ == "__main__":
    main()
