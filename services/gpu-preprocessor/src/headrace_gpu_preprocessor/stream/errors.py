"""Why a handler must stop, whatever it does."""

from headrace_common.errors import ConflictError, UnavailableError


class LeaseLostError(ConflictError):
    """The entry is another's by now, or it cannot be known to be ours; drop the work."""

    code = "lease_lost"
    title = "Lease lost"


class StopRequestedError(UnavailableError):
    """The process stops; the entry goes back for another one to take."""

    code = "stop_requested"
    title = "Stop requested"


class JobCancelledError(ConflictError):
    """Somebody cancelled the job; nothing of it is to be kept."""

    code = "job_cancelled"
    title = "Job cancelled"
