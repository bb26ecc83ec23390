"""What is done to a stack in the drill, and how it is undone: as runbooks say, where they do."""

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import boto3
import psycopg
from camera_yard import PREPROCESSOR, STREAM, Yard
from dramatiq import Message
from headrace_chaos.modes import Cut, Pass, Reset
from planner import Planner
from prometheus_server import Prometheus, targets_of
from stack_user import RECORDINGS
from watched_stack import CROWDED, SCHEDULER, WatchedStack

from headrace_common.contracts.lanes import Lane
from headrace_local.waiting import wait_until

#: Of so many cameras one is gone: more than the budget of one in twenty, less than six times it.
CAMERAS: Final = 6

_RECORDING: Final = RECORDINGS / "bobby.wav"


class Saboteur:
    """Makes the faults of a stack, and mends them as the runbooks say."""

    def __init__(self, stack: WatchedStack, yard: Yard, server: Prometheus) -> None:
        self._stack = stack
        self._server = server
        self._yard = yard
        self._user = yard.user
        self._planner = Planner(stack, process=SCHEDULER)
        self._token = self._user.token()
        self._job = self.upload()
        self._schedules: dict[str, str] = {}
        self._session: psycopg.Connection | None = None
        self._cameras = 0
        self._is_camera_lost = False
        self._is_report_mended = False
        self._stray = f"audio/{datetime.now(UTC):%Y/%m/%d}/{uuid4()}.wav"

    def close(self) -> None:
        self._planner.close()

    def upload(self, **params: str) -> str:
        job_id: str = self._user.upload(self._token, _RECORDING, **params)["job_id"]
        return job_id

    def try_to_upload(self) -> None:
        """Upload; what is answered is what the alert is about."""
        file = {"file": (_RECORDING.name, _RECORDING.read_bytes())}
        self._user.ingest.post(f"/tokens/{self._token}/upload-audio", files=file)

    def hold_jobs(self) -> None:
        """Lock the rows of a job that waits in the high lane, and of one that comes due."""
        self.command("pause", Lane.HIGH.queue_name)
        jobs = [self.upload(priority=Lane.HIGH.value), self.upload(delay="5")]
        self._session = psycopg.connect(self._yard.env["DATABASE_URL"])
        locked = self._session.execute("SELECT 1 FROM jobs WHERE id = ANY(%s) FOR UPDATE", [jobs])
        assert locked.rowcount == len(jobs)
        self.command("resume", Lane.HIGH.queue_name)

    def let_jobs_go(self) -> None:
        assert self._session is not None
        self._session.close()

    def stop_redis(self) -> None:
        name = self._planner.add("audio.reanalyse", seconds=5, job_id=self._job)
        self._schedules["redis"] = name
        self._stack.stop("valkey")

    def start_redis(self) -> None:
        self._stack.start("valkey")
        self._planner.remove(self._schedules.pop("redis"))

    def break_connections(self) -> None:
        self._stack.postgres.set(Reset(0))
        self._stack.postgres.set(Pass())

    def cut_off(self) -> None:
        self._stack.postgres.set(Cut())
        self.command("rollout", "set", "100", "--reason", "a drill")

    def stop_sqs(self) -> None:
        self.command("rollout", "set", "0")
        # Who has SQS tried does not want to wait for a minute.
        self.command("rollout", "set", "90", "--margin", "circuit_seconds=5")
        self._stack.stop("sqs")

    def start_sqs(self) -> None:
        self._stack.start("sqs")
        self.command("rollout", "set", "100")

    def leave_report(self) -> None:
        wait_until(lambda: self._yard.is_final(self._job), seconds=120)
        payload = json.dumps({"status": "of a later version"})
        self._sql(
            "INSERT INTO webhook_inbox (dedup_key, job_id, source, payload)"
            " VALUES (%s, %s, 'webhook', %s)",
            *(uuid4().hex, self._job, payload),
        )

    def mend_report(self) -> None:
        payload = json.dumps({"status": "completed"})
        self._sql("UPDATE webhook_inbox SET payload = %s WHERE applied_at IS NULL", payload)
        self._is_report_mended = True

    def replay_reports(self) -> None:
        """Once they can be read: again, since other faults may make them fail once more."""
        if self._is_report_mended:
            self.command("dead", "replay", "--source", "webhook", "--yes")

    def spoil_schedule(self) -> None:
        name = self._planner.add("audio.reanalyse", seconds=1, job_id=self._job)
        self._schedules["spoiled"] = name
        trigger = json.dumps({"type": "at full moon"})
        self._sql("UPDATE schedules SET trigger = %s WHERE name = %s", trigger, name)

    def starve(self) -> None:
        job_id = self._yard.add(self._yard.live, sec=10)
        wait_until(lambda: self._yard.slot_of(job_id), seconds=60)
        self._stack.freeze(PREPROCESSOR)
        # The read that it was in takes one of them yet.
        for _ in range(3):
            self._yard.add(self._yard.vod)
        self._stack.start(CROWDED)
        self._server.scrape(targets_of(self._stack.state))

    def feed(self) -> None:
        self._stack.stop(CROWDED)
        self._server.scrape(targets_of(self._stack.state))
        self._stack.thaw(PREPROCESSOR)

    def lose_camera(self) -> None:
        self._is_camera_lost = True

    def find_camera(self) -> None:
        self._is_camera_lost = False

    def watch_cameras(self) -> None:
        """Keep both slots busy; a lost camera is one in so many."""
        if self._under_way() > 2:
            return
        self._cameras += 1
        is_gone = self._is_camera_lost and self._cameras % CAMERAS == 0
        # That was its last try.
        self._yard.add(f"{self._yard.vod}.gone" if is_gone else self._yard.vod, attempt=9 * is_gone)

    def _under_way(self) -> int:
        groups = self._yard.redis.xinfo_groups(STREAM)
        (group,) = [each for each in groups if each["name"] == "workers"]
        return int(group["pending"] + (group["lag"] or 0))

    def add_nonsense(self) -> None:
        self._yard.redis.xadd(STREAM, {"nothing": "to be understood"})

    def drop_letters(self) -> None:
        self.command("dead", "drop", "--all", "--yes")

    def send_to_nobody(self) -> None:
        name, queue = uuid4().hex, Lane.LOW.queue_name
        options = {"redis_message_id": name}
        message: Message[Any] = Message(queue, "no.such.actor", (), {}, options, name)
        key = f"{self._yard.env.get('DRAMATIQ_NAMESPACE', 'dramatiq')}:{queue}"
        self._yard.redis.hset(f"{key}.msgs", name, message.encode())
        self._yard.redis.rpush(key, name)

    def _sql(self, statement: str, *values: str) -> None:
        with psycopg.connect(self._yard.env["DATABASE_URL"]) as connection:
            connection.execute(statement.encode(), values)

    def add_stray(self) -> None:
        self._s3().put_object(**self._object(), Body=b"stray")

    def remove_stray(self) -> None:
        self._s3().delete_object(**self._object())

    def remove_spoiled(self) -> None:
        self._planner.remove(self._schedules.pop("spoiled"))

    def heal_connections(self) -> None:
        self._stack.postgres.set(Pass())

    def send_unsigned(self) -> None:
        assert self._user.results.post("/webhooks/analysis", json={"job_id": "any"}).is_error

    def command(self, *words: str) -> None:
        """Run `headrace`."""
        self._user.run(*words)

    def _object(self) -> dict[str, Any]:
        return {"Bucket": self._yard.env["S3_BUCKET"], "Key": self._stray}

    def _s3(self) -> Any:
        env = self._yard.env
        return boto3.client(
            "s3",
            endpoint_url=env["S3_ENDPOINT_URL"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )
