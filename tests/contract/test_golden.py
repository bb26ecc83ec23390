"""Wire formats to the letter: what systems outside rely on is compared with golden files.

A failure here means that something out there breaks. If the change is wanted, write the
golden files anew with HEADRACE_WRITE_GOLDEN=1 and say so in the changelog under Breaking.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace_common.contracts import (
    AnalysisReport,
    AnalysisRequest,
    ApplyReport,
    DispatchJob,
    EventType,
    JobEvent,
    JobKind,
    JobStatus,
    Lane,
    dispatch_actor,
)
from headrace_common.contracts.cctv import (
    CANCELLED_SUFFIX,
    DEAD_REPORTS_SUFFIX,
    DEFAULT_CONTAINER,
    DEFAULT_DLQ_STREAM,
    DEFAULT_GROUP,
    DEFAULT_STREAM,
    DEFAULT_UPLOAD_PREFIX,
    DELAYED_SUFFIX,
    PAUSED_SUFFIX,
    PURGED_SUFFIX,
    REPORTS_SUFFIX,
    RESULTS_GROUP,
    SETTLED_SUFFIX,
    ArtifactName,
    CctvReport,
    CctvResult,
    CctvState,
    PreprocessEntry,
    SettledJob,
    job_folder,
    set_timestamp,
)
from headrace_common.contracts.schedules import (
    TARGETS_GROUP,
    FiringState,
    PerformFiring,
    target_contracts,
)
from headrace_common.db import Job
from headrace_common.jobs import JobView
from headrace_common.jobs.cameras import camera_entry, camera_input
from headrace_common.webhooks import callback_url

GOLDEN = Path(__file__).parent / "golden"
MOMENT = datetime(2026, 11, 22, 10, 30, 0, 123456, tzinfo=UTC)
TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
JOB_ID = "0199f3c2-7b5e-7c11-9d0a-3f2b8a6f4e21"


def check(name: str, data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    path = GOLDEN / name
    if os.environ.get("HEADRACE_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{name} has changed"


@pytest.fixture
def request_body() -> AnalysisRequest:
    url = callback_url("https://results.example.com/webhooks/analysis", JOB_ID, token="token")
    return AnalysisRequest(
        job_id=JOB_ID,
        s3_audio_url=f"s3://headrace-media/audio/{JOB_ID}.wav",
        token_id="sentence-1",
        video_id="sentence-1",
        s3_textgrid_url="s3://headrace-media/references/sentence-1.TextGrid",
        s3_pitch_url=None,
        callback_url=url,
        webhook_url=url,
        timestamp=MOMENT,
    )


def test_the_sqs_body_and_attributes(request_body: AnalysisRequest) -> None:
    check("sqs-body.json", json.loads(request_body.body()))
    check("sqs-attributes.json", AnalysisRequest.attributes(Lane.HIGH, TRACE))


def test_the_sqs_body_is_read_back(request_body: AnalysisRequest) -> None:
    assert AnalysisRequest.model_validate_json(request_body.body()) == request_body


@pytest.mark.parametrize(
    "name", ["webhook-progress", "webhook-completed", "webhook-failed", "webhook-legacy"]
)
def test_webhooks_are_understood(name: str) -> None:
    """`received` is a body from outside, `understood` what we make of it."""
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    understood = AnalysisReport.model_validate(document["received"]).model_dump(mode="json")
    check(f"{name}.json", {"received": document["received"], "understood": understood})


def test_the_dramatiq_messages() -> None:
    check(
        "dramatiq-messages.json",
        {
            "queues": {lane.value: lane.queue_name for lane in Lane},
            "actors": {lane.value: dispatch_actor(lane) for lane in Lane},
            "dispatch": DispatchJob(job_id=JOB_ID).model_dump(mode="json"),
            "apply_report": ApplyReport(inbox_id=1).model_dump(mode="json"),
        },
    )


def test_the_targets() -> None:
    """What schedules name is stored; queue and actor are known by those who work it off."""
    check(
        "targets.json",
        {
            "group": TARGETS_GROUP,
            "perform": PerformFiring(firing_id=1).model_dump(mode="json"),
            "states": list(FiringState),
            "targets": {
                name: {
                    "queue": contract.queue,
                    "actor": contract.actor,
                    "tracked": contract.tracked,
                    "params": list(contract.params.model_fields),
                }
                for name, contract in target_contracts().items()
            },
        },
    )


def test_the_event() -> None:
    event = JobEvent(
        job_id=JOB_ID,
        sequence=6,
        type=EventType.STATUS,
        status=JobStatus.QUEUED_FOR_ANALYSIS,
        progress=80,
        message="Sent to SQS, waiting for an analysis server",
        data={"sqs_message_id": "message-1"},
        created_at=MOMENT,
    )
    check("event.json", event.model_dump(mode="json"))


def test_the_job() -> None:
    job = Job(
        id=JOB_ID,
        kind=JobKind.AUDIO_ANALYSIS,
        status=JobStatus.COMPLETED,
        progress=100,
        message="The analysis is complete",
        lane=Lane.NORMAL,
        token_id="sentence-1",
        transport="sqs",
        queue_message_id="message-0",
        run=1,
        input={"s3_audio_url": f"s3://headrace-media/audio/{JOB_ID}.wav"},
        meta={"sqs_message_id": "message-1"},
        result={"score": 83.8},
        trace=TRACE,
        created_at=MOMENT,
        updated_at=MOMENT,
        finished_at=MOMENT,
        retain_until=None,
    )
    check("job.json", JobView.of(job).model_dump(mode="json"))


def test_the_names_that_clients_know() -> None:
    check(
        "names.json",
        {
            "statuses": [status.value for status in JobStatus],
            "final": [status.value for status in JobStatus if status.is_final],
            "kinds": [kind.value for kind in JobKind],
            "priorities": [lane.value for lane in Lane],
            "events": [event.value for event in EventType],
        },
    )


@pytest.mark.parametrize(
    "name", ["entry", "entry-with-job-id", "entry-of-a-retry", "entry-with-a-region"]
)
def test_entries_of_the_job_stream(name: str) -> None:
    """`received` is what the Java producer, or a retry of ours, wrote; `job_id` is derived."""
    document = json.loads((GOLDEN / f"cctv-{name}.json").read_text())
    entry = PreprocessEntry.parse(document["received"])
    understood = {
        "job_id": entry.job_id,
        "trace": entry.trace,
        "kept": camera_input(entry),
        "written": entry.fields(),
    }
    again = camera_entry(entry.job_id, camera_input(entry), {}, entry.trace)
    assert again.fields() == entry.fields(), "an entry survives its way through a row"
    check(f"cctv-{name}.json", {"received": document["received"], "understood": understood})


@pytest.mark.parametrize("state", ["processing", "queued", "completed", "failed"])
def test_reports_on_camera_jobs(state: str) -> None:
    """`received` is an entry of the stream of reports; `report` in it is JSON, shown as such."""
    name = f"cctv-report-{state}.json"
    received = json.loads((GOLDEN / name).read_text())["received"]
    report = CctvReport.model_validate(received["report"])
    trace = {key: value for key, value in received.items() if key != "report"}
    written = report.stream_fields(trace)
    check(name, {"received": {**written, "report": json.loads(written["report"])}})


def test_the_result_of_a_camera_job() -> None:
    folder = job_folder(DEFAULT_UPLOAD_PREFIX, "L010146", JOB_ID) + set_timestamp(MOMENT) + "/"
    result = CctvResult.model_validate(
        {
            "storage_url": "https://swift.example.com/v1/AUTH_6d2f",
            "container": DEFAULT_CONTAINER,
            "folder": folder,
            "artifacts": {
                name: {
                    "object": folder + name,
                    "sha256": f"{number:064x}",
                    "bytes": 1_000 + number,
                    "content_type": name.content_type,
                }
                for number, name in enumerate(ArtifactName)
            },
            "quality": 0.93,
            "damages": 3,
            "damages_by_class": {"D00": 1, "D40": 2},
            "damaged_share": 0.012,
            "worst_severity": "high",
        }
    )
    check("cctv-result.json", result.model_dump(mode="json"))


def test_the_names_of_the_camera_path() -> None:
    folder = job_folder(DEFAULT_UPLOAD_PREFIX, "L010146", "job-1") + set_timestamp(MOMENT, run=2)
    settled = SettledJob(job_id="job-1", cctv_id="L010146", run=2, folder=f"{folder}/")
    check(
        "cctv-names.json",
        {
            "stream": DEFAULT_STREAM,
            "reports": DEFAULT_STREAM + REPORTS_SUFFIX,
            "delayed": DEFAULT_STREAM + DELAYED_SUFFIX,
            "cancelled": DEFAULT_STREAM + CANCELLED_SUFFIX,
            "paused": DEFAULT_STREAM + PAUSED_SUFFIX,
            "settled": DEFAULT_STREAM + SETTLED_SUFFIX,
            "settled_job": settled.model_dump(mode="json", exclude_defaults=True),
            "purged_job": settled.model_copy(update={"purged": True}).model_dump(mode="json"),
            "purged": DEFAULT_STREAM + PURGED_SUFFIX,
            "dead_letters": DEFAULT_DLQ_STREAM,
            "dead_reports": DEFAULT_STREAM + DEAD_REPORTS_SUFFIX,
            "states": [state.value for state in CctvState],
            "groups": [DEFAULT_GROUP, RESULTS_GROUP],
            "container": DEFAULT_CONTAINER,
            "prefix": DEFAULT_UPLOAD_PREFIX,
            "artifacts": [name.value for name in ArtifactName],
        },
    )


def test_long_texts_are_cut() -> None:
    long = "x" * 5_000
    report = AnalysisReport.model_validate({"status": "failed", "message": long, "error": long})
    assert report.error is not None
    assert (len(report.message or ""), len(report.error.message)) == (1_000, 1_000)
