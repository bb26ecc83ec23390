"""The kinds of job and the statuses that clients know (requirement A6)."""

from enum import StrEnum
from typing import Final

#: In the input of a job whose client sends its file straight to S3: until when it may. Ending
#: such a job is ingest-api's own affair.
DIRECT_UPLOAD_EXPIRES_AT: Final = "direct_upload_expires_at"


class JobKind(StrEnum):
    """What a job does."""

    AUDIO_ANALYSIS = "audio_analysis"
    CCTV_PREPROCESS = "cctv_preprocess"


class JobStatus(StrEnum):
    """Where a job is; the order of declaration is the order of its life."""

    UPLOADING = "uploading"
    SCHEDULED = "scheduled"  #: accepted, and begins when its client wants it to
    QUEUING = "queuing"
    QUEUED = "queued"
    PROCESSING = "processing"
    QUEUED_FOR_ANALYSIS = "queued_for_analysis"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes the job any more."""
        return self in _FINAL

    @classmethod
    def open(cls) -> tuple["JobStatus", ...]:
        """Every status that still has a future, in order."""
        return tuple(status for status in cls if not status.is_final)


_FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})
