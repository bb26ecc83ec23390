"""Files of a job: URLs of the object store that are good for minutes."""

from typing import TYPE_CHECKING, Any, Final

import structlog
from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field, ValidationError

from headrace_common.contracts import JobKind
from headrace_common.contracts.analysis import ARTIFACTS_EXPIRED
from headrace_common.contracts.cctv import ArtifactName, CctvResult
from headrace_common.db import Database, Job
from headrace_common.errors import NotFoundError, UnprocessableError
from headrace_common.jobs import JobQueries
from headrace_common.keys import Scope
from headrace_common.settings import S3Settings
from headrace_common.storage import S3Location, allowed_location
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_results.cameras.links import SwiftLinks
from headrace_results.params import JobId

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

#: Name of the file that was uploaded; every other is one of the result's `artifacts`.
RECORDING: Final = "recording"


class ArtifactView(BaseModel):
    """A file of a job."""

    name: str = Field(description="`recording` is the upload of an audio job")
    content_type: str | None = Field(description="null where it was not told")
    bytes: int | None
    sha256: str | None
    url: str | None = Field(
        description="Good for ARTIFACT_URL_SECONDS; null where no link may be made"
    )


class ArtifactList(BaseModel):
    """The files of a job; empty while it has none."""

    job_id: str
    artifacts: list[ArtifactView]


class ArtifactUrls:
    """Signs URLs of an audio job's files, which lie in S3."""

    def __init__(self, client: "S3Client", settings: S3Settings, *, seconds: int) -> None:
        """Make it.

        Args:
            client: signs with its endpoint, which clients must be able to reach.
            settings: name the buckets that may be read.
            seconds: how long a URL is good for.
        """
        self._client = client
        self._settings = settings
        self._seconds = seconds

    def sign(self, job: Job, name: str) -> str:
        """Return a URL from which the file `name` of `job` can be read.

        Raises:
            NotFoundError: the job has no such file, or it lies in a bucket that is not ours.
        """
        location = self._location(job, name)
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": location.bucket, "Key": location.key},
            ExpiresIn=self._seconds,
        )

    def views(self, job: Job) -> list[ArtifactView]:
        """Show the job's files, those left out that lie in buckets that are not ours."""
        names = [RECORDING, *_artifacts(job)]
        views = []
        for name in names:
            try:
                url = self.sign(job, name)
            except NotFoundError:
                continue
            told: dict[str, Any] = dict(job.input) if name == RECORDING else {}
            facts = {field: told.get(field) for field in ("content_type", "bytes", "sha256")}
            views.append(ArtifactView(name=name, url=url, **facts))
        return views

    def _location(self, job: Job, name: str) -> S3Location:
        url = artifact_url(job, name)
        if url is not None:
            try:
                return allowed_location(url, self._settings)
            except UnprocessableError:
                pass  # what an analysis server made up is no file of ours
        raise NotFoundError(f"job {job.id!r} has no file {name!r}")


class JobArtifacts:
    """The files of jobs of every kind."""

    def __init__(self, audio: ArtifactUrls, cameras: SwiftLinks) -> None:
        """Sign URLs of audio jobs with `audio`, and those of camera jobs with `cameras`."""
        self._audio = audio
        self._cameras = cameras

    def views(self, job: Job) -> list[ArtifactView]:
        """Show a job's files."""
        if job.kind != JobKind.CCTV_PREPROCESS:
            return self._audio.views(job)
        result = _camera_result(job)
        if result is None:
            return []
        return [
            ArtifactView(
                name=name.value,
                content_type=stored.content_type,
                bytes=stored.bytes,
                sha256=stored.sha256,
                url=self._cameras.sign(result, stored),
            )
            for name in ArtifactName
            if (stored := result.artifacts.get(name)) is not None
        ]

    def url(self, job: Job, name: str) -> str:
        """Return a URL from which the file `name` of `job` can be read.

        Raises:
            NotFoundError: the job has no such file, or no link to it may be made.
        """
        if job.kind != JobKind.CCTV_PREPROCESS:
            return self._audio.sign(job, name)
        for view in self.views(job):
            if view.name == name and view.url is not None:
                return view.url
        raise NotFoundError(f"job {job.id!r} has no file {name!r} that can be linked to")


def _camera_result(job: Job) -> CctvResult | None:
    """Read a camera job's result; None while there is none, or of a version that we do not know."""
    if job.result is None or job.discard_at is not None:
        return None
    try:
        return CctvResult.model_validate(job.result)
    except ValidationError as error:
        log.warning("artifacts.result_unreadable", job_id=job.id, faults=error.error_count())
        return None


def artifact_url(job: Job, name: str) -> str | None:
    """Return the `s3://` URL of a job's file `name`, if it has one."""
    if job.discard_at is not None:
        return None  # the job is being purged, or was never accepted: nothing is kept
    url = job.input.get("s3_audio_url") if name == RECORDING else _artifacts(job).get(name)
    return url if isinstance(url, str) else None


def _artifacts(job: Job) -> dict[str, Any]:
    """Return the artefacts that the result names, unless they are expired."""
    expired = job.meta.get(ARTIFACTS_EXPIRED)
    artifacts = (job.result or {}).get("artifacts")
    if isinstance(expired, dict) and expired.get("run") == job.run:
        return {}
    return artifacts if isinstance(artifacts, dict) else {}


def artifacts_router(database: Database, artifacts: JobArtifacts) -> APIRouter:
    """Make the routes to a job's files."""
    router = APIRouter(tags=["jobs"])

    @router.get(
        "/jobs/{job_id}/artifacts",
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses=responses(NotFoundError),
    )
    def list_artifacts(job_id: JobId, response: Response) -> ArtifactList:
        """List the files of a job, each with a URL that is good for minutes."""
        with database.begin() as session:
            job = JobQueries(session).get(job_id)
        # A URL is a credential for as long as it is good.
        response.headers["Cache-Control"] = "no-store"
        return ArtifactList(job_id=job_id, artifacts=artifacts.views(job))

    @router.get(
        "/jobs/{job_id}/artifacts/{name}",
        status_code=307,
        response_class=RedirectResponse,
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses=responses(NotFoundError),
    )
    def read_artifact(job_id: JobId, name: str) -> RedirectResponse:
        """Redirect to a file of the job: `recording`, or one of its result's `artifacts`.

        Those of a camera job are `background.jpg`, `background_meta.json`,
        `damage_analysis.json`, `damage_result.jpg` and `process_meta.json`.
        """
        with database.begin() as session:
            job = JobQueries(session).get(job_id)
        url = artifacts.url(job, name)
        return RedirectResponse(url, headers={"Cache-Control": "no-store"})

    return router
