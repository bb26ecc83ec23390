"""Signs of life of an analysis: they keep its job from counting as silent, and nothing is kept.

The answer is what their sender is after: whether the job is still wanted.
"""

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from headrace_common.contracts import JobKind, JobStatus
from headrace_common.db import Job
from headrace_results import inbox
from headrace_results.inbox import JobFacts, NewReport


def note_life(session: Session, new: NewReport) -> JobFacts:
    """Note that a job is worked on, where that is the run it is in.

    Raises:
        NotFoundError: there is no such job.
    """
    facts = inbox.facts_of(session, new)
    session.execute(
        update(Job)
        .where(
            Job.id == new.job_id,
            Job.kind == JobKind.AUDIO_ANALYSIS,
            Job.status.in_(JobStatus.open()),
            Job.run == (facts.run if new.run is None else new.run),
        )
        .values({Job.updated_at: func.clock_timestamp()})
    )
    return facts
