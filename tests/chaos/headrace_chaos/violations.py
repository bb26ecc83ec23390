"""What can be wrong with the jobs of a run; each kind has a planted bug that shows it is seen."""

from dataclasses import dataclass
from enum import StrEnum


class ViolationKind(StrEnum):
    """A broken promise; the value is what the table calls it."""

    LOST = "lost"  #: a job that a client was promised has no row
    STUCK = "stuck"  #: it never came to an end
    WRONG_END = "wrong end"  #: it ended otherwise than it had to
    WRONG_RUN = "wrong run"  #: it was done anew oftener, or less often, than somebody asked for
    BEGAN_EARLY = "began early"  #: before the time that its client asked for
    ILLEGAL_TRANSITION = "illegal transition"
    GAP_IN_TIMELINE = "gap in the timeline"  #: of the sequence, or the row says something else
    PROGRESS_FELL = "progress fell"
    AFTER_THE_END = "after the end"  #: a job that had ended was changed
    DOUBLED_END = "doubled end"  #: it ended twice in a run
    DOUBLED_REPORT = "doubled report"  #: one report had its effect twice
    DOUBLED_JOB = "doubled job"  #: one request made two jobs
    DOUBLED_RECORDING = "doubled recording"
    DOUBLED_SET = "doubled set"  #: a run left more than one whole set of artefacts
    RESULT_MISSING = "result missing"
    WRONG_RESULT = "wrong result"  #: of another recording, or camera
    RECORDING_DAMAGED = "recording damaged"  #: missing, or other bytes than were sent
    SET_NOT_WHOLE = "set not whole"
    ORPHAN_OBJECT = "orphan object"  #: in S3, of no accepted job and no token
    ORPHAN_ARTIFACT = "orphan artefact"  #: in Swift
    ORPHAN_MULTIPART = "orphan multipart upload"
    DIRECT_UPLOAD_OPEN = "direct upload open"  #: of a job that ended, or beyond its time
    MESSAGE_LEFT = "message left"  #: in SQS, Dramatiq's queues, or a stream
    REPORT_UNAPPLIED = "report unapplied"
    STREAM_GAP = "gap in an event stream"
    STREAM_DOUBLE = "double in an event stream"
    STREAM_UNENDED = "event stream without its end"
    LETTER_OF_OPEN_JOB = "dead letter of an open job"


@dataclass(frozen=True, order=True)
class Violation:
    """Something that must never be.

    Attributes:
        kind: which promise is broken.
        job_id: whose; empty where it is nobody's.
        sentence: what was found, for people.
    """

    kind: ViolationKind
    job_id: str
    sentence: str

    def __str__(self) -> str:
        """Show it in one line."""
        return f"{self.kind}: {self.job_id or '-'}: {self.sentence}"
