"""What of an audio job lies in S3: its recording, and what analysis servers stored as results."""

from datetime import datetime
from typing import TYPE_CHECKING

from headrace_common.contracts.analysis import results_folder
from headrace_common.errors import UnprocessableError
from headrace_common.storage import S3Location
from headrace_ingest_api.cleaning.removal import remove
from headrace_ingest_api.naming import RECORDINGS, job_of_key
from headrace_ingest_api.objects import storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def own_recording(job_id: str, url: str | None, bucket: str) -> S3Location | None:
    """Return where a job's recording is, if it is one that this service stored for it.

    Args:
        job_id: of the job.
        url: that its row says.
        bucket: of the recordings; what lies elsewhere is somebody else's.
    """
    try:
        location = S3Location.parse(url or "")
    except UnprocessableError:
        return None
    ours = location.bucket == bucket and location.key.startswith(RECORDINGS)
    return location if ours and job_of_key(location.key) == job_id else None


def remove_recording(client: "S3Client", location: S3Location) -> None:
    """Remove a recording, and every multipart upload of its key.

    Raises:
        UnavailableError: S3 does not do it now.
    """
    remove(client, location, reason="purged")


def remove_results(
    client: "S3Client", bucket: str, job_id: str, *, before: datetime | None = None
) -> int:
    """Remove what analysis servers stored of a job, or of a copy, and return how many objects.

    Args:
        client: calls S3.
        bucket: of the results.
        job_id: that they were asked by.
        before: what is younger stays: a later run of the job has stored it.

    Raises:
        UnavailableError: S3 does not do it now.
    """
    removed = 0
    with storage_errors("remove results"):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=results_folder(job_id)
        )
        for stored in (each for page in pages for each in page.get("Contents", [])):
            if before is None or stored["LastModified"] < before:
                client.delete_object(Bucket=bucket, Key=stored["Key"])
                removed += 1
    return removed
