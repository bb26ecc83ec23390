"""Files of a job: a redirect to a URL of the object store that is good for minutes."""

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Depends
from fastapi.responses import RedirectResponse

from headrace_common.db import Database, Job
from headrace_common.errors import NotFoundError, UnprocessableError
from headrace_common.jobs import JobQueries
from headrace_common.keys import Scope
from headrace_common.settings import S3Settings
from headrace_common.storage import S3Location, allowed_location
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_results.params import JobId

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Name of the file that was uploaded; every other is one of the result's `artifacts`.
RECORDING: Final = "recording"


class ArtifactUrls:
    """Signs URLs of a job's files."""

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

    def _location(self, job: Job, name: str) -> S3Location:
        url = artifact_url(job, name)
        if url is not None:
            try:
                return allowed_location(url, self._settings)
            except UnprocessableError:
                pass  # what an analysis server made up is no file of ours
        raise NotFoundError(f"job {job.id!r} has no file {name!r}")


def artifact_url(job: Job, name: str) -> str | None:
    """Return the `s3://` URL of a job's file `name`, if it has one."""
    if name == RECORDING:
        url = job.input.get("s3_audio_url")
    else:
        artifacts = (job.result or {}).get("artifacts")
        url = artifacts.get(name) if isinstance(artifacts, dict) else None
    return url if isinstance(url, str) else None


def artifacts_router(database: Database, urls: ArtifactUrls) -> APIRouter:
    """Make the route to a job's files."""
    router = APIRouter(tags=["jobs"])

    @router.get(
        "/jobs/{job_id}/artifacts/{name}",
        status_code=307,
        response_class=RedirectResponse,
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses=responses(NotFoundError),
    )
    def read_artifact(job_id: JobId, name: str) -> RedirectResponse:
        """Redirect to a file of the job: `recording`, or one of its result's `artifacts`."""
        with database.begin() as session:
            job = JobQueries(session).get(job_id)
        # The URL is a credential for as long as it is good.
        return RedirectResponse(urls.sign(job, name), headers={"Cache-Control": "no-store"})

    return router
