"""Which jobs were not found at the last look: one look proves nothing, two in a row do."""


class Misses:
    """Jobs that were missing, by the number of their newest event. For one thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._last: dict[str, int] = {}
        self._now: dict[str, int] = {}

    def again(self, job_id: str, sequence: int) -> bool:
        """Note that a job is missing; whether it was in the last round too.

        Args:
            job_id: of the job.
            sequence: of its newest event; another one means that something was said meanwhile.
        """
        self._now[job_id] = sequence
        return self._last.get(job_id) == sequence

    def end_round(self) -> None:
        """Note that every job was looked at."""
        self._last, self._now = self._now, {}
