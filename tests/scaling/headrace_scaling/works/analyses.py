"""The reference analysis server: recordings off SQS, analysed, stored and reported."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import uuid4

from headrace_common.contracts import AnalysisRequest
from headrace_common.contracts.lanes import Lane
from headrace_local.services import ANALYSIS
from headrace_scaling.doings import Doing
from headrace_scaling.recording import short_recording
from headrace_scaling.scene import TOKEN, Scene
from headrace_scaling.sink import REPORT, Sink
from headrace_scaling.work import Work

_BATCH: Final = 10
_KEY: Final = "scaling/speech.wav"


class Analyses(Work):
    """Jobs of a short recording; a piece is a job."""

    deployment: ClassVar[str] = "speech-analysis-server"
    service: ClassVar[str] = ANALYSIS
    what: ClassVar[str] = "analyses of short recordings"
    each: ClassVar[int] = 16
    settled_by: ClassVar[str] = "ANALYSIS_VISIBILITY_TIMEOUT_SECONDS"
    is_once: ClassVar[bool] = False

    def __init__(self, scene: Scene, sink: Sink) -> None:
        """Make it; `sink` takes the reports."""
        super().__init__(scene)
        self._sink = sink

    def prepare(self) -> None:
        """Put the recording where its jobs say that it is."""
        self.scene.s3.put_object(
            Bucket=self.scene.settings["S3_BUCKET"], Key=_KEY, Body=short_recording()
        )

    def feed(self, count: int) -> Sequence[str]:
        """Send so many jobs to the queue."""
        items = [str(uuid4()) for _ in range(count)]
        # Of the form that boto3's types name otherwise.
        attributes: Any = AnalysisRequest.attributes(Lane.NORMAL, {})
        for begin in range(0, count, _BATCH):
            self.scene.sqs.send_message_batch(
                QueueUrl=self.scene.settings["SQS_QUEUE_URL"],
                Entries=[
                    {
                        "Id": str(number),
                        "MessageBody": self._request(item).body(),
                        "MessageAttributes": attributes,
                    }
                    for number, item in enumerate(items[begin : begin + _BATCH])
                ],
            )
        return items

    def unfinished(self, items: Sequence[str]) -> int:
        """Count the jobs that were not reported to be completed."""
        return sum(item not in self._sink.completed for item in items)

    def doings(self) -> Sequence[Doing]:
        """Return who analysed which."""

        def item(fields: Any) -> str | None:
            return str(fields["job_id"]) if fields["outcome"] == "completed" else None

        return self.logbook.doings(self.replicas, "analysis.task_ended", item)

    def effects(self, items: Sequence[str]) -> int:
        """Count the reports, which a receiver tells apart by their ids."""
        return sum(len(self._sink.completed.get(item, ())) for item in items)

    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return those that were received more than once."""
        wanted = set(items)
        return [
            fields["job_id"]
            for replica in self.replicas
            for fields in self.logbook.events(replica, "analysis.task_ended")
            if fields.get("job_id") in wanted and fields["attempt"] > 1
        ]

    def _request(self, job_id: str) -> AnalysisRequest:
        callback = f"{self._sink.url}{REPORT}?job_id={job_id}"
        return AnalysisRequest(
            job_id=job_id,
            s3_audio_url=f"s3://{self.scene.settings['S3_BUCKET']}/{_KEY}",
            token_id=TOKEN,
            video_id=TOKEN,
            s3_textgrid_url=None,
            s3_pitch_url=None,
            callback_url=callback,
            webhook_url=callback,
            timestamp=datetime.now(UTC),
        )
