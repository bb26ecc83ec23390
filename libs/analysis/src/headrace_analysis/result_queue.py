"""Reports as messages on the result queue."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_analysis.callback import Callback
from headrace_analysis.outcome import ReportOutcome
from headrace_analysis.reporting import OutgoingReport, ReportAnswer
from headrace_common import webhooks
from headrace_common.contracts import JOB_TYPE
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.messaging import MessagingSystem, queue_of, sending

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = structlog.get_logger()

#: What no repetition mends: the message itself is at fault.
_FINAL_CODES: Final = frozenset(
    {
        "InvalidMessageContents",
        "InvalidParameterValue",
        "AWS.SimpleQueueService.UnsupportedOperation",
    }
)


class ResultQueueReporter:
    """Sends reports to SQS_RESULT_QUEUE_URL, which may be a FIFO queue.

    A queue says nothing back: no task hears over it that it is to stop.
    """

    hears_back = False
    #: A queue that is away stops the receiving of jobs by itself: both are SQS.
    away_seconds = 0.0

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        """Make the reporter."""
        self._client = client
        self._queue_url = queue_url

    def check(self, callback: Callback) -> None:
        """Accept every job: the callback URL is not used."""

    def send(self, report: OutgoingReport) -> ReportAnswer:
        """Send the report once."""
        return ReportAnswer(self._send(report))

    def _send(self, report: OutgoingReport) -> ReportOutcome:
        queue = queue_of(self._queue_url)
        job_id = report.callback.job_id
        with sending(MessagingSystem.SQS, queue, report.trace, job_id=job_id):
            return self._send_with(report, current_trace())

    def _send_with(self, report: OutgoingReport, trace: Mapping[str, str]) -> ReportOutcome:
        values = {"job_type": JOB_TYPE, webhooks.ID_HEADER: report.message_id, **trace}
        extra: dict[str, Any] = {}
        if self._queue_url.endswith(".fifo"):
            extra = {
                "MessageGroupId": report.callback.job_id,
                "MessageDeduplicationId": report.message_id,
            }
        try:
            self._client.send_message(
                QueueUrl=self._queue_url,
                # What a webhook's URL tells, the message has to say by itself.
                MessageBody=json.dumps({**json.loads(report.body), "job_run": report.callback.run}),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in values.items()
                },
                **extra,
            )
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            log.warning("analysis.result_queue_failed", code=code)
            return ReportOutcome.REFUSED if code in _FINAL_CODES else ReportOutcome.UNREACHABLE
        except BotoCoreError as error:
            log.warning("analysis.result_queue_failed", code=type(error).__name__)
            return ReportOutcome.UNREACHABLE
        return ReportOutcome.DELIVERED

    def close(self) -> None:
        """Nothing to give up: the client is shared."""
