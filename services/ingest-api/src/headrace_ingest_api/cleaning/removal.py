"""Leaving nothing of a recording in S3, whatever state its upload is in."""

from contextlib import suppress
from typing import TYPE_CHECKING

from headrace_common.storage import S3Location
from headrace_ingest_api.metrics import ORPHANS
from headrace_ingest_api.objects import storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def remove(client: "S3Client", location: S3Location, *, reason: str = "discarded") -> None:
    """Abort every multipart upload of a key and delete its object; nothing there is no error.

    Args:
        client: calls S3.
        location: of the object.
        reason: for the metric.

    Raises:
        UnavailableError: S3 does not do it now.
    """
    bucket, key = location
    with storage_errors("remove"):
        # Looked for by name: a crash may have kept anybody from noting S3's id.
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
        for upload in (upload for page in pages for upload in page.get("Uploads", [])):
            if upload["Key"] == key:
                # Whoever else removes it may be quicker.
                with suppress(client.exceptions.NoSuchUpload):
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=key, UploadId=upload["UploadId"]
                    )
                ORPHANS.labels(kind="multipart", reason=reason).inc()
        client.delete_object(Bucket=bucket, Key=key)
