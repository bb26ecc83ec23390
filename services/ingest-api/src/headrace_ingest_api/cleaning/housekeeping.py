"""The threads that keep S3 clean."""

from headrace_common.repeat import Repeater
from headrace_common.web import Check
from headrace_ingest_api.cleaning.discards import Discards
from headrace_ingest_api.cleaning.expiry import Expiry
from headrace_ingest_api.cleaning.orphans import OrphanSearch
from headrace_ingest_api.resources import Resources


class HouseKeeping:
    """Runs the sweep every few seconds, and the search for orphans now and then."""

    def __init__(self, resources: Resources) -> None:
        """Prepare; nothing happens before `start`."""
        settings = resources.settings
        self._expiry = Expiry(resources.database, resources.store)
        self._discards = Discards(
            resources.database,
            resources.s3,
            resources.s3_breaker,
            retry_seconds=settings.storage_discard_retry_seconds,
        )
        self._orphans = OrphanSearch(
            resources.database,
            resources.s3,
            settings.s3_bucket,
            days=settings.storage_scan_days,
            unknown_after=settings.storage_orphan_age,
        )
        self._settings = settings
        self._repeaters = [Repeater("storage_sweep", self._sweep)]
        if settings.storage_scan_days:
            self._repeaters.append(Repeater("storage_search", self._search))

    def alive(self) -> list[Check]:
        """Return the checks of the threads."""
        return [Check(one.name, one.check_alive) for one in self._repeaters]

    def ready(self) -> list[Check]:
        """Return the checks of what they do."""
        return [
            Check(f"{one.name}_works", one.check_working, required=False) for one in self._repeaters
        ]

    def start(self) -> None:
        """Start the threads."""
        for repeater in self._repeaters:
            repeater.start()

    def ask_to_stop(self) -> None:
        """Let the steps under way be the last."""
        for repeater in self._repeaters:
            repeater.ask_to_stop()

    def join(self) -> None:
        """Wait until they are done, for as long as a stop may take."""
        for repeater in self._repeaters:
            repeater.join(timeout_seconds=self._settings.shutdown_grace_seconds)

    def _sweep(self) -> float:
        self._expiry.step()
        self._discards.step()
        return self._settings.storage_sweep_seconds

    def _search(self) -> float:
        self._orphans.step()
        return self._settings.storage_scan_seconds
