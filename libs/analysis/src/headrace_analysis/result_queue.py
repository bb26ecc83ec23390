"""Reports as messages on the result queue."""

from typing import TYPE_CHECKING, Any, Final

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_analysis.callback import Callback
from headrace_analysis.outcome import ReportOutcome
from headrace_analysis.reporting import OutgoingReport
from headrace_common import webhooks
from headrace_common.contracts import JOB_TYPE

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
    """Sends reports to SQS_RESULT_QUEUE_URL, which may be a FIFO queue."""

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        """Make the reporter."""
        self._client = client
        self._queue_url = queue_url

    def check(self, callback: Callback) -> None:
        """Accept every job: the callback URL is not used."""

    def send(self, report: OutgoingReport) -> ReportOutcome:
        """Send the report once."""
        values = {"job_type": JOB_TYPE, webhooks.ID_HEADER: report.message_id, **report.trace}
        extra: dict[str, Any] = {}
        if self._queue_url.endswith(".fifo"):
            extra = {
                "MessageGroupId": report.callback.job_id,
                "MessageDeduplicationId": report.message_id,
            }
        try:
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=report.body.decode(),
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
