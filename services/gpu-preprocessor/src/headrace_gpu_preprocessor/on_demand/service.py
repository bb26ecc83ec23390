"""Looks at one picture or one clip for one request. Its work is blocking, and done in threads."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace_common.errors import HeadraceError
from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.background import BackgroundBuilder
from headrace_gpu_preprocessor.background.device import Device
from headrace_gpu_preprocessor.detection.analysis import DamageAnalysis, analyse
from headrace_gpu_preprocessor.detection.detector import Detector, Image
from headrace_gpu_preprocessor.detection.drawing import draw, encode_jpeg
from headrace_gpu_preprocessor.detection.region import Region
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.on_demand import metrics
from headrace_gpu_preprocessor.on_demand.errors import ClipTooLongError, StoppingError
from headrace_gpu_preprocessor.on_demand.images import decode
from headrace_gpu_preprocessor.on_demand.settings import OnDemandSettings
from headrace_gpu_preprocessor.on_demand.slots import Slots
from headrace_gpu_preprocessor.video import ClipReader, DecoderPool, ReadLimits

Answer = TypeVar("Answer")
Mask = NDArray[np.bool_]

#: Without a background one frame is looked at: the middle one of so many.
_FRAMES_FOR_ONE: Final = 3
#: Nothing is left for tiles.
_NO_TILES_MEGAPIXELS: Final = 1e-6


@dataclass(frozen=True)
class Finding:
    """What was found, with all that its drawing needs.

    Attributes:
        analysis: of the picture.
        picture: BGR.
        usable: where the picture shows the road; None for everywhere.
        region: where the road is; None for everywhere.
        seconds: that all of it took.
        clip: what was read of a video.
        background: how the background came out, if one was made.
    """

    analysis: DamageAnalysis
    picture: Image
    usable: Mask | None
    region: Mask | None
    seconds: float
    clip: dict[str, Any] | None = None
    background: dict[str, Any] | None = None

    def jpeg(self) -> bytes:
        """Draw it. Blocking."""
        drawn = draw(self.picture, self.analysis, usable_mask=self.usable, region_mask=self.region)
        return encode_jpeg(drawn)


@dataclass(frozen=True)
class VideoOrder:
    """What to look at.

    Attributes:
        url: of an HLS playlist or a video file, from outside.
        seconds: of it.
        background: whether to take the traffic away first; else one frame is looked at.
        region: where the road is.
    """

    url: str
    seconds: float
    background: bool = True
    region: Region | None = None


class OnDemand:
    """Detection for requests: bounded in number, memory and time."""

    def __init__(
        self,
        detector: Detector,
        detection: DetectionSettings,
        settings: OnDemandSettings,
        *,
        guard: NetGuard,
        limits: Callable[[float], ReadLimits],
        admit: Callable[[], AbstractContextManager[object]] = nullcontext,
        decoders: DecoderPool | None = None,
        device: Device = "auto",
    ) -> None:
        """Make it; its threads start when they are first needed.

        Args:
            detector: the model, shared with the jobs.
            detection: how pictures go through it.
            settings: what a request may cost.
            guard: the one way to videos.
            limits: what a clip of so many seconds may cost.
            admit: waits until there is memory for one more picture, and holds it; raises
                UnavailableError if there is none for too long.
            decoders: has decoders that are started already, and is closed by its owner.
            device: what counts the samples of backgrounds.
        """
        self.detector = detector
        self.settings = settings
        self._detection = detection
        self._guard = guard
        self._limits = limits
        self._admit = admit
        self._decoders = decoders
        self._device = device
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(
            settings.on_demand_concurrency, thread_name_prefix="on-demand"
        )
        self.slots = Slots(
            running=settings.on_demand_concurrency,
            waiting=settings.on_demand_waiting,
            wait_seconds=settings.on_demand_wait_seconds,
        )

    def ask_to_stop(self) -> None:
        """Take nothing more; what runs ends at its next frame."""
        self._stopping.set()

    def close(self, *, timeout_seconds: float = 30) -> None:
        """End what runs at its next frame, and wait for that; no longer than `timeout_seconds`."""
        self.ask_to_stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        waiting = threading.Thread(target=self._threads.shutdown, name="on-demand-end", daemon=True)
        waiting.start()
        waiting.join(timeout_seconds)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Wait for a turn and run blocking work in a thread, with the caller's log context.

        Raises:
            BusyError: no turn in time.
            StoppingError: it has been asked to stop.
        """
        context = contextvars.copy_context()
        async with self.slots.turn():
            if self._stopping.is_set():
                raise StoppingError("this process stops; ask again")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, context.run, work)

    async def counted(self, source: str, work: Awaitable[Answer]) -> Answer:
        """Await a request's work and count how it ended."""
        outcome = "internal_error"
        try:
            answer = await work
            outcome = "ok"
        except HeadraceError as error:
            outcome = error.code
            raise
        finally:
            metrics.REQUESTS.labels(source=source, outcome=outcome).inc()
        return answer

    def image(self, data: bytes, region: Region | None = None, *, tiles: bool = True) -> Finding:
        """Look at a picture file. Blocking.

        Args:
            data: JPEG, PNG or WebP, from outside.
            region: where the road is.
            tiles: look closer at parts of it besides; not for close-ups.

        Raises:
            HeadraceError: it cannot be decoded, or there is no memory for it.
        """
        started = time.monotonic()
        settings = self._detection
        if not tiles:
            settings = settings.model_copy(
                update={"detector_budget_megapixels": _NO_TILES_MEGAPIXELS}
            )
        with self._admit():
            picture = decode(data, max_pixels=self.settings.on_demand_max_pixels)
            return self._find(picture, None, region, settings, started)

    def video(self, order: VideoOrder) -> Finding:
        """Look at a clip. Blocking.

        Raises:
            HeadraceError: it cannot be read, and why.
        """
        most = self.settings.on_demand_max_seconds
        if order.seconds > most:
            raise ClipTooLongError(f"{order.seconds:g} s are asked for, {most:g} s at most")
        started = time.monotonic()
        with self._admit():
            return (
                self._background(order, started)
                if order.background
                else self._frame(order, started)
            )

    def _background(self, order: VideoOrder, started: float) -> Finding:
        limits = self._limits(order.seconds)
        builder = BackgroundBuilder(limits.samples, device=self._device)
        clip = self._read(order, limits, builder.add)
        built = builder.build(now=time.time())
        found = self._find(built.picture, built.usable, order.region, self._detection, started)
        return replace(found, clip=clip, background=built.meta)

    def _frame(self, order: VideoOrder, started: float) -> Finding:
        frames: list[Image] = []
        limits = replace(self._limits(order.seconds), samples=_FRAMES_FOR_ONE)
        clip = self._read(order, limits, lambda pixels, _at: frames.append(pixels))
        picture = frames[len(frames) // 2]
        found = self._find(picture, None, order.region, self._detection, started)
        return replace(found, clip=clip)

    def _read(
        self, order: VideoOrder, limits: ReadLimits, take: Callable[[Image, float], None]
    ) -> dict[str, Any]:
        with ClipReader(
            order.url,
            order.seconds,
            guard=self._guard,
            limits=limits,
            kind="auto",
            decoders=self._decoders,
        ) as reader:
            for frame in reader:
                if self._stopping.is_set():
                    raise StoppingError("this process stops; ask again")
                take(frame.pixels, frame.time)
            report = reader.report
        return {**asdict(report), "short": report.short, "whole": report.whole}

    def _find(
        self,
        picture: Image,
        usable: Mask | None,
        region: Region | None,
        settings: DetectionSettings,
        started: float,
    ) -> Finding:
        height, width = picture.shape[:2]
        mask = None if region is None else region.mask(width, height)
        analysis = analyse(picture, usable, mask, self.detector, settings)
        seconds = round(time.monotonic() - started, 3)
        return Finding(analysis, picture, usable, mask, seconds)
