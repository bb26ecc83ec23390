"""What an analysis server needs to take Headrace's jobs.

A server is a handler and its settings:

    def handler(task: AnalysisTask) -> dict[str, object]:
        task.progress(10, "Listening")
        ...
        task.check()
        return {"duration_seconds": 1.87}

    AnalysisServer(handler, AnalysisSettings.load()).run()
"""

from headrace_analysis.callback import CallbackNotAllowedError
from headrace_analysis.dependency import Dependency
from headrace_analysis.errors import AnalysisError
from headrace_analysis.outcome import AnalysisOutcome, StopReason
from headrace_analysis.processes import ProcessPool
from headrace_analysis.result_store import ResultStore, S3ResultStore
from headrace_analysis.server import AnalysisServer
from headrace_analysis.settings import AnalysisSettings
from headrace_analysis.task import AnalysisTask, SpeechHandler, TaskStoppedError

__all__ = [
    "AnalysisError",
    "AnalysisOutcome",
    "AnalysisServer",
    "AnalysisSettings",
    "AnalysisTask",
    "CallbackNotAllowedError",
    "Dependency",
    "ProcessPool",
    "ResultStore",
    "S3ResultStore",
    "SpeechHandler",
    "StopReason",
    "TaskStoppedError",
]
