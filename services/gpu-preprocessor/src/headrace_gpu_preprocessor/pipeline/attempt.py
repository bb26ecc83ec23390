"""One attempt at a job: read, background, damage, upload; gone on with wherever another ended.

Every artefact that is stored is a checkpoint (`artifacts`). What comes after one is made from what
is stored and from nothing else, so that any process can go on, and gets the same.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import structlog

from headrace_common.artifact_sets import CodeRecord, ProcessFacts, SourceRecord, public_url
from headrace_common.contracts.cctv import ArtifactName, CctvResult, Stage
from headrace_common.netguard import NetGuard
from headrace_common.telemetry.trace import step
from headrace_gpu_preprocessor.artifacts import ArtifactSets, UnfinishedSet, WholeSet
from headrace_gpu_preprocessor.background import Background, CameraStore
from headrace_gpu_preprocessor.detection.detector import Detector
from headrace_gpu_preprocessor.detection.region import CameraRegions, Region
from headrace_gpu_preprocessor.pipeline import metrics
from headrace_gpu_preprocessor.pipeline.clip import Clip, read_clip
from headrace_gpu_preprocessor.pipeline.damage import find_damage, findings, model_record
from headrace_gpu_preprocessor.pipeline.errors import LowQualityError
from headrace_gpu_preprocessor.pipeline.stages import SPANS
from headrace_gpu_preprocessor.pipeline.stored_background import (
    BadBackgroundError,
    StoredBackground,
)
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_gpu_preprocessor.video import DecoderPool

log = structlog.get_logger()

_PICTURE, _FACTS = ArtifactName.BACKGROUND, ArtifactName.BACKGROUND_META
_ANALYSIS, _DRAWN = ArtifactName.DAMAGE_ANALYSIS, ArtifactName.DAMAGE_RESULT


@dataclass(frozen=True)
class Parts:
    """What attempts are made with; all of it is safe for several threads.

    Attributes:
        settings: of the service.
        detector: the model.
        sets: where the artefacts go.
        cameras: what each camera showed before; None for no memory.
        regions: where the road is, for jobs that do not say it.
        guard: the one way to a stream.
        code: what this service is.
        aside: threads for what is done while damage is looked for.
        decoders: has decoders that are started already; None starts one for each clip.
    """

    settings: PreprocessorSettings
    detector: Detector
    sets: ArtifactSets
    cameras: CameraStore | None
    regions: CameraRegions
    guard: NetGuard
    code: CodeRecord
    aside: Executor
    decoders: DecoderPool | None = None


class Attempt:
    """One attempt, in one thread."""

    def __init__(self, parts: Parts, job: LeasedJob) -> None:
        """Make it; `run` does the work."""
        self._parts = parts
        self._job = job
        self._entry = job.entry
        self._timings: dict[str, float] = {}
        self._remembered: Future[None] | None = None

    def run(self) -> CctvResult:
        """Do what is left of the job.

        Raises:
            HeadraceError: it could not be done; `retryable` tells whether later may be better.
        """
        found = self._parts.sets.find(self._entry, check=self._job.check)
        if isinstance(found, WholeSet):
            log.info("pipeline.found_done", folder=found.folder)
            return found.as_result()
        begun = self._gone_on_with(found) or self._begun()
        try:
            artifacts, background = self._with_damage(*begun)
        finally:
            if self._remembered is not None:
                self._remembered.result()
        with self._stage(Stage.UPLOADING, "Completing the set"):
            self._timings["total"] = round(self._job.seconds, 3)
            return artifacts.finish(self._facts(artifacts, background)).as_result()

    def _gone_on_with(
        self, found: UnfinishedSet | None
    ) -> tuple[UnfinishedSet, StoredBackground] | None:
        """Return an earlier attempt's set with its background, if that can be used."""
        if found is None or _FACTS not in found:
            return None
        try:
            background = StoredBackground.read(found.read(_PICTURE), found.read(_FACTS))
        except BadBackgroundError as error:
            log.warning("pipeline.background_unusable", folder=found.folder, error=str(error))
            return None
        log.info("pipeline.gone_on", folder=found.folder, artifacts=[*found.names])
        return found, background

    def _begun(self) -> tuple[UnfinishedSet, StoredBackground]:
        """Read the clip, make the background and store it."""
        clip = self._read()
        with self._stage(Stage.BACKGROUND, "Taking the traffic out"):
            made, stored = self._background(clip)
        with self._stage(Stage.UPLOADING, "Storing the background", stage=Stage.BACKGROUND):
            artifacts, stored = self._stored(stored)
        if self._parts.cameras is not None:
            self._job.check()
            save, camera = self._parts.cameras.save, self._entry.cctv_id
            # In the job's context, for the log.
            self._remembered = self._parts.aside.submit(
                copy_context().run, save, camera, made.memory
            )
        return artifacts, stored

    def _read(self) -> Clip:
        seconds = self._entry.sec
        with self._stage(Stage.READING, f"Reading {seconds:g} s of video"):
            clip = read_clip(
                self._entry,
                guard=self._parts.guard,
                limits=self._parts.settings.read_limits(seconds),
                device=self._parts.settings.background_device,
                on_frame=self._on_frame,
                decoders=self._parts.decoders,
            )
        for code in clip.report.faults:
            metrics.CLIP_FAULTS.labels(code=code).inc()
        return clip

    def _on_frame(self, share: float) -> None:
        self._job.check()
        message = f"Read {share * self._entry.sec:.0f} of {self._entry.sec:g} s"
        self._job.progress(Stage.READING, SPANS[Stage.READING].at(share), message)

    def _background(self, clip: Clip) -> tuple[Background, StoredBackground]:
        settings, camera = self._parts.settings, self._entry.cctv_id
        earlier = None if self._parts.cameras is None else self._parts.cameras.load(camera)
        region = self._region()
        width, height = clip.builder.size
        background = clip.builder.build(
            now=clip.taken_at.timestamp(),
            earlier=earlier,
            region=None if region is None else region.mask(width, height),
        )
        metrics.QUALITY.observe(background.quality)
        low = background.quality < settings.min_quality
        if low and not self._delivers_low_quality():
            raise LowQualityError(
                f"quality {background.quality:.2f} is below {settings.min_quality:g}: "
                "the clip saw too little of the road",
                retry_after=settings.low_quality_retry_seconds,
            )
        stored = StoredBackground.make(
            self._entry,
            clip,
            background,
            region,
            jpeg_quality=settings.jpeg_quality,
            low_quality=low,
        )
        return background, stored

    def _region(self) -> Region | None:
        """Return where the road is: as the job says, else as the file of regions does."""
        told = self._entry.road_region
        return self._parts.regions.of(self._entry.cctv_id) if told is None else Region(told)

    def _delivers_low_quality(self) -> bool:
        settings = self._parts.settings
        is_last = self._entry.attempt >= settings.redis_max_retry
        return is_last and settings.low_quality_at_last == "accept"

    def _stored(self, background: StoredBackground) -> tuple[UnfinishedSet, StoredBackground]:
        """Store a background in a new set; return what is stored, which may be another's."""
        artifacts = self._parts.sets.begin(self._entry, check=self._job.check)
        artifacts.put(_PICTURE, background.jpeg)
        artifacts.put(_FACTS, background.document)
        if artifacts.read(_FACTS) == background.document:
            return artifacts, background
        return artifacts, StoredBackground.read(artifacts.read(_PICTURE), artifacts.read(_FACTS))

    def _with_damage(
        self, artifacts: UnfinishedSet, background: StoredBackground
    ) -> tuple[UnfinishedSet, StoredBackground]:
        """Look for damage and store what is found, unless that is stored already."""
        if _DRAWN in artifacts:
            return artifacts, background
        with self._stage(Stage.DETECTING, "Looking for damage"):
            files = find_damage(background, self._parts.detector, self._parts.settings)
        with self._stage(Stage.UPLOADING, "Storing what was found"):
            artifacts.put(_ANALYSIS, files.document)
            if artifacts.read(_ANALYSIS) != files.document:
                # Another model made it: our picture would not fit. Both are stored anew.
                artifacts, background = self._stored(background)
                artifacts.put(_ANALYSIS, files.document)
            artifacts.put(_DRAWN, files.picture)
        return artifacts, background

    def _facts(self, artifacts: UnfinishedSet, background: StoredBackground) -> ProcessFacts:
        analysis: dict[str, Any] = json.loads(artifacts.read(_ANALYSIS))
        meta = background.meta
        names = ("samples", "sample_times_seconds", "samples_dropped", "share_filled")
        return ProcessFacts(
            attempt=self._entry.attempt,
            source=SourceRecord(url=public_url(self._entry.hls), seconds=self._entry.sec),
            clip=meta["clip"],
            frames={name: meta["background"][name] for name in names},
            model=model_record(analysis),
            code=self._parts.code,
            timings_seconds=self._timings,
            findings=findings(analysis, background),
        )

    @contextmanager
    def _stage(self, told: Stage, message: str, *, stage: Stage | None = None) -> Iterator[None]:
        """Do a stage: checked and told before, timed after.

        Args:
            told: which stage clients are told.
            message: for people.
            stage: whose progress it is told with, where that is another.
        """
        self._job.check()
        span = SPANS[stage or told]
        self._job.progress(told, span.end if stage else span.begin, message)
        started = time.monotonic()
        with step(f"preprocess.{told.value}", attempt=self._entry.attempt):
            yield
        seconds = time.monotonic() - started
        metrics.STAGE_SECONDS.labels(stage=told.value).observe(seconds)
        name = told.value
        self._timings[name] = round(self._timings.get(name, 0.0) + seconds, 3)
        log.info("pipeline.stage_done", stage=name, seconds=round(seconds, 3))
