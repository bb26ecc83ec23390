"""One planted bug, or more, for each kind of violation: each breaks one thing in a small world."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace_chaos.checker import check
from headrace_chaos.ledger import Entry, Verdict
from headrace_chaos.violations import Violation
from headrace_chaos.violations import ViolationKind as Kind
from headrace_chaos.world import World
from headrace_common.contracts import JobStatus
from headrace_common.contracts.cctv import ArtifactName
from headrace_common.db import DeadLetter
from headrace_common.jobs import Failure

_APPEND: Final = """
WITH grown AS (
    UPDATE jobs SET event_sequence = event_sequence + 1 WHERE id = :job
    RETURNING event_sequence, progress
)
INSERT INTO job_events (job_id, sequence, type, status, progress, message)
SELECT :job, event_sequence, 'status', :status, progress, 'planted' FROM grown
"""
_DIRECT: Final = """
INSERT INTO direct_uploads (job_id, bucket, key, size, part_bytes, expires_at)
VALUES (:job, :bucket, 'audio/direct', 1, 1, now() + interval '1 day')
"""


@dataclass(frozen=True)
class Bug:
    """A planted bug.

    Attributes:
        kind: what the checker has to call it.
        name: what is broken.
        plant: breaks it.
    """

    kind: Kind
    name: str
    plant: Callable[[World], Any]

    def found(self, world: World) -> list[Violation]:
        """Plant it, and return what the checker finds that it did not find before."""
        self.plant(world)
        return news(world)


def news(world: World) -> list[Violation]:
    """Return what is wrong in a world, and was not when this was asked the last time."""
    found = check(world.observer.gather(), world.ledger.promises())
    known, world.known = world.known, set(found)
    return [violation for violation in found if violation not in known]


def _row_deleted(world: World) -> None:
    world.sql("DELETE FROM jobs WHERE id = :job", job=world.audio().job_id)


def _stopped_half_way(world: World) -> None:
    world.work(world.upload())


def _cancel_without_effect(world: World) -> None:
    world.note(Entry.CANCEL, world.audio(), verdict=Verdict.GRANTED)


def _good_recording_failed(world: World) -> None:
    recorded = world.upload()
    world.work(recorded)
    error = {"code": "out_of_luck", "message": "planted"}
    world.report(recorded.job_id, {"status": "failed", "error": error})


def _bad_recording_completed(world: World) -> None:
    recorded = world.upload(told=False)
    must_fail = {**recorded.promise, "natural_end": JobStatus.FAILED}
    world.note(Entry.ACCEPTED, recorded, **must_fail)
    world.work(recorded)
    world.answer(recorded)


def _bad_recording_failed_otherwise(world: World) -> None:
    recorded = world.upload(ends=JobStatus.FAILED)
    failure = Failure("dispatch_failed", "planted")
    world.change(recorded.job_id, JobStatus.FAILED, failure=failure)


def _done_anew_unasked(world: World) -> None:
    world.begin_anew(world.audio())


def _back_to_the_queue(world: World) -> None:
    recorded = world.upload()
    world.work(recorded)
    world.sql(_APPEND, job=recorded.job_id, status="queued")
    world.answer(recorded)


def _queued_early(world: World) -> None:
    job = world.later().job_id
    world.sql("UPDATE jobs SET run_at = run_at + interval '1 hour' WHERE id = :job", job=job)


def _begun_without_a_queue(world: World) -> None:
    job = world.later().job_id
    world.sql(
        "UPDATE job_events SET status = 'processing' WHERE job_id = :job AND status = 'queued'",
        job=job,
    )


def _event_deleted(world: World) -> None:
    job = world.audio().job_id
    world.sql("DELETE FROM job_events WHERE job_id = :job AND sequence = 3", job=job)


def _status_without_event(world: World) -> None:
    job = world.audio().job_id
    world.sql("UPDATE jobs SET status = 'failed' WHERE id = :job", job=job)


def _progress_lowered(world: World) -> None:
    job = world.audio().job_id
    world.sql("UPDATE job_events SET progress = 45 WHERE job_id = :job AND sequence = 6", job=job)


def _worked_on_after_its_end(world: World) -> None:
    world.sql(_APPEND, job=world.audio().job_id, status="processing")


def _second_end(world: World) -> None:
    world.sql(_APPEND, job=world.audio().job_id, status="completed")


def _report_applied_twice(world: World) -> None:
    recorded = world.upload()
    world.work(recorded)
    inbox_id = world.report(recorded.job_id, {"status": "completed", "result": {"a": 1}})
    world.answer(recorded)
    world.sql("UPDATE webhook_inbox SET applied_at = NULL WHERE id = :id", id=inbox_id)
    world.applier.apply(inbox_id)


def _second_job_of_a_request(world: World) -> None:
    twin = world.upload(told=False, data=world.audio().data)
    world.work(twin)
    world.answer(twin)


def _answered_with_two_jobs(world: World) -> None:
    first, second = world.audio(), world.audio()
    world.note(Entry.ACCEPTED, second, **{**second.promise, "key": first.promise["key"]})


def _recording_stored_twice(world: World) -> None:
    recorded = world.audio()
    key = recorded.key.replace("/25/", "/26/")
    world.s3.put_object(Bucket=world.bucket, Key=key, Body=recorded.data)


def _second_set(world: World) -> None:
    job = world.camera()
    camera = world.sql("SELECT input ->> 'cctv_id' FROM jobs WHERE id = :job", job=job)[0][0]
    world.put_set(job, camera)


def _result_deleted(world: World) -> None:
    key = f"results/{world.audio().job_id}/analysis.json"
    world.s3.delete_object(Bucket=world.bucket, Key=key)


def _row_without_result(world: World) -> None:
    world.sql("UPDATE jobs SET result = NULL WHERE id = :job", job=world.audio().job_id)


def _set_deleted(world: World) -> None:
    folder = _folder(world, world.camera())
    for name in ArtifactName:
        world.swift.delete(folder + name)


def _result_of_another(world: World) -> None:
    world.sql(
        "UPDATE jobs SET result = (SELECT result FROM jobs WHERE id = :other) WHERE id = :job",
        job=world.audio().job_id,
        other=world.audio().job_id,
    )


def _document_of_another(world: World) -> None:
    key, other = (f"results/{world.audio().job_id}/analysis.json" for _ in range(2))
    body = world.s3.get_object(Bucket=world.bucket, Key=other)["Body"].read()
    world.s3.put_object(Bucket=world.bucket, Key=key, Body=body)


def _byte_of_a_recording_flipped(world: World) -> None:
    recorded = world.audio()
    world.s3.put_object(Bucket=world.bucket, Key=recorded.key, Body=_flipped(recorded.data))


def _recording_deleted(world: World) -> None:
    world.s3.delete_object(Bucket=world.bucket, Key=world.audio().key)


def _byte_of_an_artifact_flipped(world: World) -> None:
    name = _folder(world, world.camera()) + ArtifactName.DAMAGE_RESULT
    world.swift.put(name, _flipped(world.swift.get(name) or b""))


def _artifact_deleted(world: World) -> None:
    world.swift.delete(_folder(world, world.camera()) + ArtifactName.BACKGROUND)


def _object_of_nobody(world: World) -> None:
    world.s3.put_object(Bucket=world.bucket, Key=f"audio/{uuid.uuid4()}.wav", Body=b"orphan")


def _object_of_a_broken_upload(world: World) -> None:
    job = world.never_accepted()
    key = f"audio/2026/11/25/{job}.wav"
    world.s3.put_object(Bucket=world.bucket, Key=key, Body=b"left behind")


def _set_of_nobody(world: World) -> None:
    world.put_set(str(uuid.uuid4()), "cam-nobody")


def _unfinished_set(world: World) -> None:
    job = world.camera()
    folder = _folder(world, job).rstrip("/").rpartition("/")[0]
    world.swift.put(f"{folder}/20261125T000000.000Z/background.jpg", b"left behind")


def _multipart_begun(world: World) -> None:
    world.s3.create_multipart_upload(Bucket=world.bucket, Key=f"audio/{uuid.uuid4()}.wav")


def _direct_upload_begun(world: World) -> None:
    world.sql(_DIRECT, job=world.never_accepted(), bucket=world.bucket)


def _message_in_sqs(world: World) -> None:
    world.sqs.send_message(
        QueueUrl=world.endpoints.settings["SQS_QUEUE_URL_LOW"], MessageBody="planted"
    )


def _message_in_a_dead_letter_queue(world: World) -> None:
    url = world.endpoints.settings["SQS_QUEUE_URL"]
    world.sqs.send_message(QueueUrl=f"{url}-dlq", MessageBody="planted")


def _message_in_dramatiq(world: World) -> None:
    world.redis.hset(f"{world.endpoints.settings['DRAMATIQ_NAMESPACE']}:low_priority.msgs", "m", "")


def _entry_unread(world: World) -> None:
    world.redis.xgroup_create(world.stream, "workers", id="0", mkstream=True)
    world.redis.xadd(world.stream, {"cctvId": "planted"})


def _entry_pending(world: World) -> None:
    reports = f"{world.stream}:reports"
    world.redis.xgroup_create(reports, "results", id="0", mkstream=True)
    world.redis.xadd(reports, {"report": "planted"})
    world.redis.xreadgroup("results", "somebody", {reports: ">"})


def _entry_delayed(world: World) -> None:
    world.redis.zadd(f"{world.stream}:delayed", {"planted": 1})


def _report_left(world: World) -> None:
    recorded = world.audio()
    world.keep(recorded.job_id, {"status": "processing"})


def _event_not_shown(world: World) -> None:
    job = world.audio().job_id
    world.saw(job, [event for event in world.timeline(job) if event[0] != 4])


def _event_shown_twice(world: World) -> None:
    job = world.audio().job_id
    seen = world.timeline(job)
    world.saw(job, [*seen[:4], *seen[3:]])


def _stream_broke_off(world: World) -> None:
    job = world.audio().job_id
    world.saw(job, world.timeline(job)[:-1], ended=False)


def _letter_of_an_open_job(world: World) -> None:
    recorded = world.upload()
    with world.database.begin() as session:
        session.add(
            DeadLetter(
                id=str(uuid.uuid4()),
                source="dramatiq",
                queue="audio_analysis",
                source_id="planted",
                kind="dispatch",
                job_id=recorded.job_id,
                fingerprint="planted",
                code="planted",
                reason="planted",
                payload={},
                died_at=datetime.now(UTC),
            )
        )


def _folder(world: World, job: str) -> str:
    rows = world.sql("SELECT result ->> 'folder' FROM jobs WHERE id = :job", job=job)
    return str(rows[0][0])


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


BUGS: Final = (
    Bug(Kind.LOST, "row deleted", _row_deleted),
    Bug(Kind.STUCK, "stopped half-way", _stopped_half_way),
    Bug(Kind.WRONG_END, "cancel without effect", _cancel_without_effect),
    Bug(Kind.WRONG_END, "good recording failed", _good_recording_failed),
    Bug(Kind.WRONG_END, "bad recording completed", _bad_recording_completed),
    Bug(Kind.WRONG_END, "bad one failed for another reason", _bad_recording_failed_otherwise),
    Bug(Kind.WRONG_RUN, "done anew unasked", _done_anew_unasked),
    Bug(Kind.BEGAN_EARLY, "queued before its time", _queued_early),
    Bug(Kind.ILLEGAL_TRANSITION, "back to the queue", _back_to_the_queue),
    Bug(Kind.ILLEGAL_TRANSITION, "begun without having been queued", _begun_without_a_queue),
    Bug(Kind.GAP_IN_TIMELINE, "event deleted", _event_deleted),
    Bug(Kind.GAP_IN_TIMELINE, "status set without an event", _status_without_event),
    Bug(Kind.PROGRESS_FELL, "progress lowered", _progress_lowered),
    Bug(Kind.AFTER_THE_END, "worked on after its end", _worked_on_after_its_end),
    Bug(Kind.DOUBLED_END, "second completed event", _second_end),
    Bug(Kind.DOUBLED_REPORT, "report applied twice", _report_applied_twice),
    Bug(Kind.DOUBLED_JOB, "second job of a request", _second_job_of_a_request),
    Bug(Kind.DOUBLED_JOB, "answered with two jobs", _answered_with_two_jobs),
    Bug(Kind.DOUBLED_RECORDING, "recording stored twice", _recording_stored_twice),
    Bug(Kind.DOUBLED_SET, "second set of a run", _second_set),
    Bug(Kind.RESULT_MISSING, "analysis.json deleted", _result_deleted),
    Bug(Kind.RESULT_MISSING, "row without its result", _row_without_result),
    Bug(Kind.RESULT_MISSING, "set deleted", _set_deleted),
    Bug(Kind.WRONG_RESULT, "another job's result in the row", _result_of_another),
    Bug(Kind.WRONG_RESULT, "another job's analysis.json", _document_of_another),
    Bug(Kind.RECORDING_DAMAGED, "byte flipped", _byte_of_a_recording_flipped),
    Bug(Kind.RECORDING_DAMAGED, "recording deleted", _recording_deleted),
    Bug(Kind.SET_NOT_WHOLE, "byte of an artefact flipped", _byte_of_an_artifact_flipped),
    Bug(Kind.SET_NOT_WHOLE, "artefact deleted", _artifact_deleted),
    Bug(Kind.ORPHAN_OBJECT, "object of nobody", _object_of_nobody),
    Bug(Kind.ORPHAN_OBJECT, "object of an upload that broke off", _object_of_a_broken_upload),
    Bug(Kind.ORPHAN_ARTIFACT, "set of nobody", _set_of_nobody),
    Bug(Kind.ORPHAN_ARTIFACT, "unfinished set left", _unfinished_set),
    Bug(Kind.ORPHAN_MULTIPART, "multipart upload left", _multipart_begun),
    Bug(Kind.DIRECT_UPLOAD_OPEN, "direct upload left", _direct_upload_begun),
    Bug(Kind.MESSAGE_LEFT, "in SQS", _message_in_sqs),
    Bug(Kind.MESSAGE_LEFT, "in a dead-letter queue", _message_in_a_dead_letter_queue),
    Bug(Kind.MESSAGE_LEFT, "in a Dramatiq queue", _message_in_dramatiq),
    Bug(Kind.MESSAGE_LEFT, "unread in the stream", _entry_unread),
    Bug(Kind.MESSAGE_LEFT, "pending in the reports", _entry_pending),
    Bug(Kind.MESSAGE_LEFT, "delayed", _entry_delayed),
    Bug(Kind.REPORT_UNAPPLIED, "report never applied", _report_left),
    Bug(Kind.STREAM_GAP, "event not shown", _event_not_shown),
    Bug(Kind.STREAM_DOUBLE, "event shown twice", _event_shown_twice),
    Bug(Kind.STREAM_UNENDED, "stream broke off", _stream_broke_off),
    Bug(Kind.LETTER_OF_OPEN_JOB, "letter of a job that is open", _letter_of_an_open_job),
)
