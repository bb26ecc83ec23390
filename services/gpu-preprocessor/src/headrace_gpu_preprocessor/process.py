"""Everything this process is made of; it connects to nothing until it is started."""

import threading
import time
from typing import Final

import structlog

from headrace_common.db import Database
from headrace_common.web import Check
from headrace_gpu_preprocessor.admission import Admitted, MemoryGuard, choose_probe
from headrace_gpu_preprocessor.detection import drawing
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.on_demand import OnDemand
from headrace_gpu_preprocessor.pipeline.job import Pipeline
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_gpu_preprocessor.stream import StreamConsumer
from headrace_gpu_preprocessor.video import DecoderPool

log = structlog.get_logger()

#: What requests on demand are called where memory is estimated: they differ from jobs.
ON_DEMAND_KIND: Final = "on_demand"
#: After the deadline so long for what should only close connections.
_CLOSE_SECONDS: Final = 1.0


class PreprocessorProcess:
    """The parts of the service, and their start and stop."""

    def __init__(self, settings: PreprocessorSettings) -> None:
        """Put the parts together; the model is loaded and tried here.

        Raises:
            BadSettingsError: the model, a region or a key cannot be used.
        """
        self._settings = settings
        keys = settings.key_database()
        self.key_database = (
            None if keys is None else Database(keys, application_name="headrace-gpu-preprocessor")
        )
        self._deadline: float | None = None
        self._closing = threading.Event()
        self._guard = MemoryGuard(choose_probe(settings), settings)
        detector = load_detector(settings)
        self._decoders = DecoderPool()
        self._pipeline = Pipeline(settings, detector, self._decoders)
        self.consumer = StreamConsumer(
            settings, self._pipeline, self._guard, self._pipeline.remove_remains
        )
        self.on_demand = OnDemand(
            detector,
            settings,
            settings,
            guard=settings.guard(),
            limits=settings.read_limits,
            admit=self._admit,
            decoders=self._decoders,
            device=settings.background_device,
        )

    def alive(self) -> list[Check]:
        """Return the checks of what must run in this process."""
        return [Check("stream_consumer", self.consumer.check_alive)]

    def ready(self) -> list[Check]:
        """Return the checks of the servers around it."""
        checks = [
            Check("redis", self.consumer.check_working),
            # While Swift is away jobs wait (stream/gate.py); other endpoints work without it.
            Check("swift", self._pipeline.check_storage, required=False),
        ]
        if self.key_database is not None:
            checks.append(Check("database", self.key_database.ping, required=False))
        return checks

    def start(self) -> None:
        """Begin to take jobs."""
        if self._settings.meta_signing_key is None:
            log.warning("preprocessor.unsigned", reason="META_SIGNING_KEY is not set")
        # The drawing library takes seconds to import: not within the first job.
        for name, task in (
            ("preload-drawing", drawing.preload),
            ("prepare-storage", self._pipeline.prepare_storage),
        ):
            threading.Thread(target=task, name=name, daemon=True).start()
        self._decoders.warm()
        self.consumer.start()

    def ask_to_stop(self) -> None:
        """Take no job more; what runs gets SHUTDOWN_GRACE_SECONDS from now, then goes back.

        Requests are answered until `stop`: nobody hands those over to another process.
        """
        if self._deadline is not None:
            return
        grace = self._settings.shutdown_grace_seconds
        self._deadline = time.monotonic() + grace
        self.consumer.ask_to_stop(grace_seconds=grace)

    def stop(self) -> None:
        """Stop, and wait for what runs for as long as `ask_to_stop` has left."""
        self.ask_to_stop()
        self._closing.set()
        self.consumer.stop(grace_seconds=self._seconds_left)
        self.on_demand.close(timeout_seconds=self._seconds_left)
        # A job that was left behind may still upload.
        closing = threading.Thread(target=self._pipeline.close, name="close-storage", daemon=True)
        closing.start()
        closing.join(self._seconds_left + _CLOSE_SECONDS)
        self._decoders.close()
        if self.key_database is not None:
            self.key_database.close()

    @property
    def _seconds_left(self) -> float:
        return max(0.0, (self._deadline or 0.0) - time.monotonic())

    def _admit(self) -> Admitted:
        return self._guard.admit(
            ON_DEMAND_KIND, timeout=self._settings.on_demand_wait_seconds, stop=self._closing
        )
