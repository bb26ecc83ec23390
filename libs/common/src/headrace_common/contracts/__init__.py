"""The wire: lanes, statuses, messages and reports that services exchange.

Services share these contracts and no code. Everything here is plain data; golden files in
`tests/contract` hold each format to the letter.
"""

from headrace_common.contracts.analysis import (
    ANALYSIS_PROGRESS,
    JOB_TYPE,
    SOURCE,
    AnalysisReport,
    AnalysisRequest,
    ReportError,
    ReportReceipt,
    ReportStatus,
)
from headrace_common.contracts.events import EVENTS_CHANNEL, EventType, JobEvent
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import LANE_QUEUES, Lane
from headrace_common.contracts.messages import (
    APPLY_REPORT_QUEUE,
    ActorName,
    ApplyReport,
    DispatchJob,
    dispatch_actor,
)

__all__ = [
    "ANALYSIS_PROGRESS",
    "APPLY_REPORT_QUEUE",
    "EVENTS_CHANNEL",
    "JOB_TYPE",
    "LANE_QUEUES",
    "SOURCE",
    "ActorName",
    "AnalysisReport",
    "AnalysisRequest",
    "ApplyReport",
    "DispatchJob",
    "EventType",
    "JobEvent",
    "JobKind",
    "JobStatus",
    "Lane",
    "ReportError",
    "ReportReceipt",
    "ReportStatus",
    "dispatch_actor",
]
