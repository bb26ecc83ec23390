"""What others want of us: the stream paused, jobs cancelled, entries taken away."""

import structlog

from headrace_gpu_preprocessor.stream.slots import Slots
from headrace_gpu_preprocessor.stream.store import StreamStore

log = structlog.get_logger()


class Watch:
    """Asks the server, and tells the slots and those who work in them. Used on the event loop."""

    def __init__(self, store: StreamStore, slots: Slots) -> None:
        """Ask through `store`."""
        self._store = store
        self._slots = slots

    async def look(self) -> None:
        """Ask once.

        An entry that is lost is noticed here sooner than by a renewal: a server that was flushed
        has it handed out anew, and two would work on one job.
        """
        jobs = {
            work.delivery.hold.entry_id: (work, work.job)
            for work in self._slots.works
            if work.job is not None and not work.lease.is_lost
        }
        asked = [(w.lease.hold, job.job_id, job.entry.job_run) for w, job in jobs.values()]
        seen = await self._store.look(asked)
        if seen.paused != self._slots.paused_by_stream:
            log.info("stream.paused_for_all" if seen.paused else "stream.resumed_for_all")
        self._slots.set_paused_by_stream(seen.paused)
        for entry_id in seen.lost & jobs.keys():
            work, job = jobs[entry_id]
            if self._slots.find(entry_id) is work:
                log.warning("stream.entry_gone", entry_id=entry_id, job_id=job.job_id)
                work.lease.lose()
        for entry_id in seen.cancelled & jobs.keys():
            _, job = jobs[entry_id]
            if not job.cancelled.is_set():
                log.info("stream.job_cancelled", entry_id=entry_id, job_id=job.job_id)
                job.cancelled.set()
