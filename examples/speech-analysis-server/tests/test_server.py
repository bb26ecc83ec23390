"""The server as it is run: a process, on real SQS and S3, answering to a real receiver."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from speech_signals import RECORDINGS, silence, write

from headrace_common import webhooks
from headrace_common.contracts import AnalysisRequest, Lane
from headrace_common.settings import S3Settings, SqsSettings
from headrace_common.sqs import ensure_queues, sqs_client
from headrace_common.storage import S3Location, s3_client
from headrace_local.ports import reserve_port
from headrace_local.waiting import wait_until
from speech_analysis_server import reference

if TYPE_CHECKING:  # importing a plugin by hand would be too early for pytest
    from headrace_local.pytest_plugin import LocalServers

pytestmark = pytest.mark.stack

SECRET = webhooks.secret_from_bytes(b"a secret of 32 bytes for testing")


class Webhooks:
    """Takes webhooks, and checks their signatures."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                webhooks.verify(raw, headers, secrets=[SECRET])
                receiver.bodies.append(json.loads(raw))
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"

    def final(self, job_id: str) -> dict[str, Any] | None:
        return next(
            (b for b in self.bodies if b["job_id"] == job_id and b["status"] != "processing"), None
        )


@dataclass
class Running:
    url: str
    queue: str
    bucket: str
    webhooks: Webhooks
    sqs: Any
    s3: Any
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(repr=False)

    def put(self, path: Path) -> str:
        location = S3Location(self.bucket, f"test/{uuid.uuid4()}/{path.name}")
        self.s3.put_object(Bucket=location.bucket, Key=location.key, Body=path.read_bytes())
        return location.url

    def get(self, url: str) -> bytes:
        location = S3Location.parse(url)
        data: bytes = self.s3.get_object(Bucket=location.bucket, Key=location.key)["Body"].read()
        return data

    def request(
        self, audio: str, *, textgrid: str | None = None, pitch: str | None = None
    ) -> AnalysisRequest:
        job_id = str(uuid.uuid4())
        callback = f"http://{self.webhooks.host}/webhook?job_id={job_id}"
        return AnalysisRequest(
            job_id=job_id, s3_audio_url=audio, token_id="t", video_id="t", s3_textgrid_url=textgrid,
            s3_pitch_url=pitch, callback_url=callback, webhook_url=callback,
            timestamp=datetime.now(UTC),
        )  # fmt: skip

    def analyse(self, audio: str, **references: str) -> dict[str, Any]:
        request = self.request(audio, **references)
        self.sqs.send_message(
            QueueUrl=self.queue,
            MessageBody=request.body(),
            MessageAttributes=AnalysisRequest.attributes(Lane.NORMAL, {}),
        )
        return wait_until(lambda: self.webhooks.final(request.job_id), seconds=120)


@pytest.fixture(scope="module")
def running(
    local_servers: "LocalServers", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    found = local_servers.require("sqs", "s3").state.env
    names = (
        "S3_ENDPOINT_URL", "S3_BUCKET", "SQS_ENDPOINT_URL",
        "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    )  # fmt: skip
    servers: dict[str, Any] = {name.lower(): found[name] for name in names}
    sqs = sqs_client(SqsSettings(**servers))
    queue = ensure_queues(sqs, lane_queues=False, prefix=f"s{uuid.uuid4().hex[:10]}-").by_lane[
        Lane.NORMAL
    ]
    receiver = Webhooks()
    environment = {
        "HOST": "127.0.0.1",
        "PORT": str(reserve_port()),
        **{name: found[name] for name in names},
        "SQS_QUEUE_URL": queue,
        "CALLBACK_ALLOWED_HOSTS": receiver.host,
        "WEBHOOK_SECRETS": SECRET,
        "ANALYSIS_WAIT_SECONDS": "1",
        "LOG_FORMAT": "json",
    }
    log = (tmp_path_factory.mktemp("speech") / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "speech_analysis_server"],
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
    )
    server = Running(
        f"http://127.0.0.1:{environment['PORT']}", queue, found["S3_BUCKET"],
        receiver, sqs, s3_client(S3Settings(**servers)),
        environment, process,
    )  # fmt: skip
    try:
        wait_until(lambda: _is_ready(server), seconds=240)
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in {0, -signal.SIGTERM}, Path(log.name).read_text()
    finally:
        process.kill()
        process.wait()
        log.close()
        receiver.server.shutdown()
        receiver.server.server_close()
        sqs.delete_queue(QueueUrl=queue)


def _is_ready(server: Running) -> bool:
    assert server.process.poll() is None, "the server has ended"
    try:
        return httpx.get(f"{server.url}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_speech_with_its_reference(running: Running, tmp_path: Path) -> None:
    pitch = tmp_path / "mary.json"
    reference.main([str(RECORDINGS / "mary.wav"), "--pitch-out", str(pitch)])
    references = {
        "textgrid": running.put(RECORDINGS / "mary.TextGrid"),
        "pitch": running.put(pitch),
    }
    report = running.analyse(running.put(RECORDINGS / "bobby.wav"), **references)
    assert report["status"] == "completed"
    result = report["result"]
    assert result["warnings"] == []
    assert [i["label"] for i in result["comparison"]["intervals"]] == [
        "mary",
        "rolled",
        "the",
        "barrel",
    ]
    assert "contours" not in result
    job_id = report["job_id"]
    assert result["artifacts"] == {
        "analysis": f"s3://{running.bucket}/results/{job_id}/analysis.json",
        "plot": f"s3://{running.bucket}/results/{job_id}/plot.png",
    }
    assert running.get(result["artifacts"]["plot"]).startswith(b"\x89PNG")
    document = json.loads(running.get(result["artifacts"]["analysis"]))
    assert len(document["contours"]["pitch"]["times"]) > 50
    assert document["comparison"] == result["comparison"]
    assert any(b["status"] == "processing" for b in running.webhooks.bodies)


def test_silence(running: Running, tmp_path: Path) -> None:
    report = running.analyse(running.put(write(tmp_path / "silence.wav", silence(1.0))))
    assert report["status"] == "completed"
    assert report["result"]["pitch"] is None
    assert [w["code"] for w in report["result"]["warnings"]] == ["audio_silent"]


def test_a_broken_file(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF" + b"\x00" * 500)
    report = running.analyse(running.put(path))
    assert report["status"] == "failed"
    assert report["error"]["code"] == "audio_unreadable"


def test_references_that_are_missing_or_elsewhere_are_warnings(running: Running) -> None:
    report = running.analyse(
        running.put(RECORDINGS / "mary.wav"),
        textgrid=f"s3://{running.bucket}/no/such.TextGrid",
        pitch="s3://somebody-elses-bucket/pitch.json",
    )
    assert report["status"] == "completed"
    codes = [w["code"] for w in report["result"]["warnings"]]
    assert codes == ["textgrid_missing", "pitch_not_allowed"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("s3://somebody-elses-bucket/x.wav", "media_not_allowed"),
        ("http://169.254.169.254/latest", "media_not_allowed"),
    ],
)
def test_a_recording_elsewhere_is_refused(running: Running, url: str, code: str) -> None:
    report = running.analyse(url)
    assert (report["status"], report["error"]["code"]) == ("failed", code)


def test_the_http_way(running: Running) -> None:
    request = running.request(running.put(RECORDINGS / "mary.wav"))
    body = request.body().encode()
    url = f"{running.url}/analyze"
    assert httpx.post(url, content=body, timeout=30).status_code == 401
    headers = webhooks.sign(body, secrets=[SECRET], message_id="msg_1")
    answer = httpx.post(url, content=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["job_id"]) == (202, request.job_id)
    wait_until(lambda: running.webhooks.final(request.job_id))
    assert running.webhooks.final(request.job_id)["status"] == "completed"  # type: ignore[index]


def test_health_and_metrics(running: Running) -> None:
    with httpx.Client(base_url=running.url, timeout=30) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health").json()["status"] == "ok"
        assert "headrace_analysis_slots 2.0" in client.get("/metrics").text
