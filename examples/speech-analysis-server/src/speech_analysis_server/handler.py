"""The handler: fetch, analyse in a child process, store, answer."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_analysis import (
    AnalysisError,
    AnalysisOutcome,
    AnalysisTask,
    Dependency,
    ProcessPool,
    ResultStore,
)
from speech_analysis_server.analysis import AnalysisInput, AnalysisOutput, analyse
from speech_analysis_server.media import asked_to_wait, fetch
from speech_analysis_server.settings import SpeechSettings
from speech_analysis_server.values import Json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()


class SpeechAnalysis:
    """Analyses the recordings of tasks; called on several threads at once."""

    def __init__(self, settings: SpeechSettings, *, client: "S3Client", store: ResultStore) -> None:
        """Make the handler.

        Args:
            settings: limits and allowed buckets.
            client: boto3's S3 client, to read with.
            store: keeps `analysis.json` and `plot.png`.
        """
        self._settings = settings
        self._client = client
        self._store = store
        self.s3 = Dependency(
            "s3",
            settings.circuit_policy,
            retry_seconds=settings.analysis_dependency_retry_seconds,
        )
        self._pool: ProcessPool[AnalysisInput, AnalysisOutput] = ProcessPool(
            analyse, memory_bytes=settings.speech_memory_limit_bytes
        )

    def __call__(self, task: AnalysisTask) -> AnalysisOutcome:
        """Analyse one recording, and compare it with the token's reference.

        Raises:
            AnalysisError: final where the recording is at fault, retryable where S3 is.
        """
        with tempfile.TemporaryDirectory(prefix="speech-") as folder:
            task.progress(5, "Fetching the recording")
            work = self._fetch(task, Path(folder))
            task.progress(25, "Analysing the speech")
            output = self._pool.run(work, check=task.check)
        task.progress(85, "Storing the results")
        artifacts = self._keep(task, output)
        task.progress(95, "Reporting")
        return AnalysisOutcome(output.summary | {"artifacts": artifacts}, _headline(output.summary))

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()

    def _fetch(self, task: AnalysisTask, folder: Path) -> AnalysisInput:
        request, warnings = task.request, []
        audio = folder / "recording"
        most, most_reference = (
            self._settings.speech_max_audio_bytes,
            self._settings.speech_max_reference_bytes,
        )
        self._copy(task, request.s3_audio_url, audio, max_bytes=most)
        references: dict[str, Path | None] = {}
        for name, url in (("textgrid", request.s3_textgrid_url), ("pitch", request.s3_pitch_url)):
            references[name] = folder / name if url else None
            if not url:
                continue
            try:
                self._copy(task, url, folder / name, max_bytes=most_reference)
            except AnalysisError as error:
                if error.retryable:
                    raise
                # Without its reference the speech is still worth analysing.
                log.warning("speech.reference_unusable", reference=name, code=error.code)
                warnings.append((f"{name}_{error.code.removeprefix('media_')}", error.message))
                references[name] = None
        return AnalysisInput(
            title=f"Token {request.token_id}, job {request.job_id}",
            audio=audio,
            textgrid=references["textgrid"],
            pitch=references["pitch"],
            max_seconds=self._settings.speech_max_duration_seconds,
            warnings=tuple(warnings),
            plain_plot=self._settings.speech_plain_plot,
        )

    def _copy(self, task: AnalysisTask, url: str, target: Path, *, max_bytes: int) -> None:
        """Fetch an object, again and again for a while where S3 is at fault."""

        def once() -> None:
            fetch(
                self._client,
                url,
                target,
                settings=self._settings,
                max_bytes=max_bytes,
                check=task.check,
            )

        self.s3.call(once, check=task.check)

    def _keep(self, task: AnalysisTask, output: AnalysisOutput) -> dict[str, str]:
        document = output.summary | {"job_id": task.job_id, "contours": output.contours}
        data = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        return {
            "analysis": self._put(task, "analysis.json", data, "application/json"),
            "plot": self._put(task, "plot.png", output.plot, "image/png"),
        }

    def _put(self, task: AnalysisTask, name: str, data: bytes, content_type: str) -> str:
        def once() -> str:
            try:
                return self._store.put(task.job_id, name, data, content_type)
            except (BotoCoreError, ClientError) as error:
                wait = asked_to_wait(error) if isinstance(error, ClientError) else None
                raise AnalysisError(
                    "results_not_stored",
                    "The results could not be stored",
                    retryable=True,
                    retry_after=wait,
                ) from error

        return self.s3.call(once, check=task.check)


def _headline(summary: Json) -> str:
    """Return the result in one line."""
    comparison = summary["comparison"]
    if comparison and comparison["score"] is not None:
        return f"Analysed: {comparison['score']:.0f} of 100 against the reference"
    if summary["pitch"]:
        return f"Analysed: median pitch {summary['pitch']['median_hz']:.0f} Hz"
    return "Analysed: no voiced speech found"
