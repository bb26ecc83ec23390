"""The state of the lanes and of the SQS queues behind them (A7)."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Literal

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from headrace_common.contracts.lanes import Lane
from headrace_common.errors import ForbiddenError, UnavailableError
from headrace_common.jobs import JobQueries
from headrace_common.keys import Principal, Scope
from headrace_common.sqs import lane_queue_urls
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.resources import Resources

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = structlog.get_logger()


class LaneStatus(BaseModel):
    """One lane."""

    length: int = Field(description="Jobs that wait in the lane", examples=[2])
    failed_count: int = Field(description="Failed jobs that are still kept", examples=[0])
    started_count: int = Field(description="Jobs that a worker has in hand", examples=[1])


class LanesStatus(BaseModel):
    """Every lane, by the name of its queue, in order of preference."""

    high_priority: LaneStatus
    audio_analysis: LaneStatus
    low_priority: LaneStatus


class SqsQueueInfo(BaseModel):
    """What SQS tells; the counts are its own approximations, and strings as it sends them."""

    messages_available: str = Field(examples=["2"])
    messages_in_flight: str = Field(examples=["0"])
    queue_url: str = Field(
        description="The queue of the normal lane; the counts are of all lanes together",
        examples=["https://sqs.us-east-1.amazonaws.com/123456789012/audio-analysis-queue"],
    )


class SqsStatus(BaseModel):
    """The SQS queues."""

    status: Literal["success"] = "success"
    queue_info: SqsQueueInfo | None = Field(description="null while SQS is not used")
    sqs_enabled: bool


def queues_router(resources: Resources) -> APIRouter:
    """Make the routes that tell how full the queues are."""
    router = APIRouter(tags=["queues"])
    caller = requires(Scope.JOBS_READ, legacy_endpoint=True)

    @router.get("/queue/status", responses=responses(ForbiddenError, UnavailableError))
    def queue_status(_caller: Annotated[Principal, Depends(caller)]) -> LanesStatus:
        """Tell how many jobs wait, are worked on and have failed, lane by lane."""
        with resources.database.begin() as session:
            counts = JobQueries(session).lane_counts()
        lanes = {
            lane.queue_name: LaneStatus(
                length=counts[lane].waiting,
                failed_count=counts[lane].failed,
                started_count=counts[lane].started,
            )
            for lane in Lane
        }
        return LanesStatus(**lanes)

    @router.get("/tokens/queue/status", responses=responses(ForbiddenError, UnavailableError))
    def sqs_status(_caller: Annotated[Principal, Depends(caller)]) -> SqsStatus:
        """Tell how many messages wait for analysis servers, and how many these have in hand."""
        if resources.sqs is None:
            return SqsStatus(queue_info=None, sqs_enabled=False)
        urls = lane_queue_urls(resources.settings)
        available, in_flight = count_messages(resources.sqs, set(urls.values()))
        info = SqsQueueInfo(
            messages_available=str(available),
            messages_in_flight=str(in_flight),
            queue_url=urls[Lane.NORMAL],
        )
        return SqsStatus(queue_info=info, sqs_enabled=True)

    return router


def count_messages(client: "SQSClient", urls: Collection[str]) -> tuple[int, int]:
    """Return how many messages are available, and how many in flight, in all queues together.

    Raises:
        UnavailableError: SQS does not tell.
    """
    available = in_flight = 0
    for url in urls:
        try:
            attributes = client.get_queue_attributes(
                QueueUrl=url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                ],
            )["Attributes"]
        except (BotoCoreError, ClientError) as error:
            log.warning("queues.sqs_away", error=str(error)[:500])
            raise UnavailableError("SQS does not answer; try again") from error
        available += int(attributes["ApproximateNumberOfMessages"])
        in_flight += int(attributes["ApproximateNumberOfMessagesNotVisible"])
    return available, in_flight
