"""Results that are too large for a report: kept in S3, linked from the report."""

from typing import TYPE_CHECKING, Protocol

from headrace_common.contracts.analysis import results_folder
from headrace_common.storage import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ResultStore(Protocol):
    """A place for large results."""

    def put(self, job_id: str, name: str, data: bytes, content_type: str) -> str:
        """Keep `data`, overwriting what is there, and return its URL."""
        ...


class S3ResultStore:
    """Keeps results as `results/{job_id}/{name}`, so that a repeat overwrites."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        """Make the store."""
        self._client = client
        self._bucket = bucket

    def put(self, job_id: str, name: str, data: bytes, content_type: str) -> str:
        """Keep `data` and return its `s3://` URL."""
        location = S3Location(self._bucket, f"{results_folder(job_id)}{name}")
        self._client.put_object(
            Bucket=location.bucket, Key=location.key, Body=data, ContentType=content_type
        )
        return location.url
