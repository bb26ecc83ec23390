"""The stream of jobs: entries are read, worked on under a lease, and settled in one step."""

from headrace_gpu_preprocessor.stream.consumer import StreamConsumer
from headrace_gpu_preprocessor.stream.errors import LeaseLostError, StopRequestedError
from headrace_gpu_preprocessor.stream.job import Handler, LeasedJob
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.status import StreamSnapshot

__all__ = [
    "Handler",
    "LeaseLostError",
    "LeasedJob",
    "StopRequestedError",
    "StreamConsumer",
    "StreamSettings",
    "StreamSnapshot",
]
