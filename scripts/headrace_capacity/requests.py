"""Requests to SQS and S3: counted from the rules by which the services make them.

Unlike processor time they are not linear in the work: a batch holds more jobs the more there are,
and a poll that finds nothing costs as much as one that does.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from headrace_common.contracts.lanes import Lane
from headrace_common.settings import SQS_MAX_WAIT_SECONDS
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES

#: BATCH_LINGER_SECONDS.
_LINGER_SECONDS: Final = 0.005
#: DEAD_LETTER_INTERVAL_SECONDS: then dead letters are looked for in each queue for a second.
_DEAD_PAUSE_SECONDS: Final = 10.0
#: Depths of the queues are asked for so often, by every dispatcher; KEDA asks for those of the
#: lanes.
_DEPTHS_SECONDS: Final = 15.0
_KEDA_SECONDS: Final = 15.0
#: SQS_RESULT_WAIT_SECONDS.
_RESULT_WAIT_SECONDS: Final = 5.0
#: A third of ANALYSIS_VISIBILITY_TIMEOUT_SECONDS; one request renews ten messages.
_RENEWAL_SECONDS: Final = 40.0
#: UPLOAD_PART_BYTES: what is not longer goes in one request.
_PART_MIB: Final = 8.0
#: Of the recording and of the results folder of a job that is removed. Deleting costs nothing, and
#: LIST as much as PUT.
LISTS_PER_PURGE: Final = 2


@dataclass(frozen=True)
class SqsTraffic:
    """Who uses SQS.

    Attributes:
        jobs_per_second: that go over it.
        dispatchers: pods.
        results: pods.
        analysis_servers: pods.
        lane_wait_seconds: ANALYSIS_LANE_WAIT_SECONDS.
        lane_queues: three, or one for all lanes.
        keda: whether KEDA looks at the lanes.
    """

    jobs_per_second: float
    dispatchers: float
    results: float
    analysis_servers: float
    lane_wait_seconds: float = 1.0
    lane_queues: int = len(Lane)
    keda: bool = True

    def per_second(self) -> dict[str, float]:
        """Return requests a second, by operation.

        A server with free slots waits for each of the lanes in turn. A message that it gets costs
        that poll, and one more of each lane, without waiting, that finds nothing: four requests a
        job. With one queue it goes on waiting, for longer: one request a job. Under load one poll
        brings several jobs, or none is asked for while all slots are busy: this is a bound from
        above, which holds at the loads that are planned for.
        """
        jobs, lanes = self.jobs_per_second, self.lane_queues
        queues = lanes + 1
        looks = self.dispatchers * queues / (_DEAD_PAUSE_SECONDS + queues)
        wait = self.lane_wait_seconds if lanes > 1 else float(SQS_MAX_WAIT_SECONDS)
        busy = jobs * wait / 2  # polls that were cut short by a message
        idle = max(self.analysis_servers - busy, 0.0) / wait
        return {
            "SendMessageBatch": jobs / jobs_per_batch(jobs / self.dispatchers),
            "ReceiveMessage": jobs * (lanes + 1 if lanes > 1 else 1)
            + idle
            + self.results / _RESULT_WAIT_SECONDS
            + looks,
            "DeleteMessage": jobs,
            "ChangeMessageVisibilityBatch": min(self.analysis_servers, jobs) / _RENEWAL_SECONDS,
            "GetQueueAttributes": looks
            + self.dispatchers * queues / _DEPTHS_SECONDS
            + self.keda * lanes / _KEDA_SECONDS,
            "GetQueueUrl": looks,
        }


def jobs_per_batch(jobs_per_second: float) -> float:
    """Return how many jobs go in one request, on average, of a dispatcher that sends so many.

    The first waits BATCH_LINGER_SECONDS for others, which come at random.
    """
    return min(1 + jobs_per_second * _LINGER_SECONDS, float(SQS_MAX_BATCH_ENTRIES))


def s3_writes_per_upload(mib: float) -> int:
    """Return the PUT-like requests of an upload: one, or a multipart upload's."""
    if mib <= _PART_MIB:
        return 1
    return ceil(mib / _PART_MIB) + 2
