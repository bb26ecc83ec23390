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
    ProcessPool,
    ResultStore,
)
from speech_analysis_server.analysis import AnalysisInput, AnalysisOutput, analyse
from speech_analysis_server.media import fetch
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
        artifacts = self._keep(task.job_id, output)
        task.progress(95, "Reporting")
        return AnalysisOutcome(output.summary | {"artifacts": artifacts}, _headline(output.summary))

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()

    def _fetch(self, task: AnalysisTask, folder: Path) -> AnalysisInput:
        request, warnings = task.request, []
        audio = folder / "recording"
        fetch(
            self._client,
            request.s3_audio_url,
            audio,
            settings=self._settings,
            max_bytes=self._settings.speech_max_audio_bytes,
            check=task.check,
        )
        references: dict[str, Path | None] = {}
        for name, url in (("textgrid", request.s3_textgrid_url), ("pitch", request.s3_pitch_url)):
            references[name] = folder / name if url else None
            if not url:
                continue
            try:
                self._fetch_reference(task, url, folder / name)
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
        )

    def _fetch_reference(self, task: AnalysisTask, url: str, target: Path) -> None:
        fetch(
            self._client,
            url,
            target,
            settings=self._settings,
            max_bytes=self._settings.speech_max_reference_bytes,
            check=task.check,
        )

    def _keep(self, job_id: str, output: AnalysisOutput) -> dict[str, str]:
        document = output.summary | {"job_id": job_id, "contours": output.contours}
        data = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        try:
            return {
                "analysis": self._store.put(job_id, "analysis.json", data, "application/json"),
                "plot": self._store.put(job_id, "plot.png", output.plot, "image/png"),
            }
        except (BotoCoreError, ClientError) as error:
            raise AnalysisError(
                "results_not_stored", "The results could not be stored", retryable=True
            ) from error


def _headline(summary: Json) -> str:
    """Return the result in one line."""
    comparison = summary["comparison"]
    if comparison and comparison["score"] is not None:
        return f"Analysed: {comparison['score']:.0f} of 100 against the reference"
    if summary["pitch"]:
        return f"Analysed: median pitch {summary['pitch']['median_hz']:.0f} Hz"
    return "Analysed: no voiced speech found"
