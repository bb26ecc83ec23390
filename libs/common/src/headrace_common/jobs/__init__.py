"""The job model: states, guarded transitions, the timeline, and how they are read."""

from headrace_common.jobs.changes import Change, Failure, NewJob, Outcome
from headrace_common.jobs.events import EventPublisher
from headrace_common.jobs.queries import JobFilter, JobPage, JobQueries
from headrace_common.jobs.states import PROGRESS, may_become, predecessors
from headrace_common.jobs.store import JobStore
from headrace_common.jobs.view import JobView

__all__ = [
    "PROGRESS",
    "Change",
    "EventPublisher",
    "Failure",
    "JobFilter",
    "JobPage",
    "JobQueries",
    "JobStore",
    "JobView",
    "NewJob",
    "Outcome",
    "may_become",
    "predecessors",
]
