"""Fetching what a job names from S3: allowed buckets only, bounded, in chunks to a file."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from headrace_analysis import AnalysisError
from headrace_common.errors import UnprocessableError
from headrace_common.retry_after import retry_after_seconds
from headrace_common.settings import S3Settings
from headrace_common.storage import S3Location, allowed_location

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

_CHUNK_BYTES: Final = 256 * 1024
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchBucket", "404", "NotFound"})


def fetch(
    client: "S3Client",
    url: str,
    target: Path,
    *,
    settings: S3Settings,
    max_bytes: int,
    check: "Callable[[], None]",
) -> None:
    """Copy an object to a file.

    Args:
        client: boto3's S3 client.
        url: `s3://bucket/key`, from outside.
        target: the file.
        settings: which buckets are allowed.
        max_bytes: larger objects are refused.
        check: called between chunks; may raise.

    Raises:
        AnalysisError: final `media_not_allowed`, `media_missing`, `media_too_large`; retryable
            `media_unavailable`.
    """
    try:
        location = allowed_location(url, settings)
    except UnprocessableError as error:
        raise AnalysisError("media_not_allowed", error.detail) from error
    try:
        _copy(client, location, target, max_bytes, check)
    except ClientError as error:
        if error.response["Error"].get("Code") in _MISSING:
            raise AnalysisError("media_missing", f"There is no {location.url}") from error
        raise _unavailable(location, retry_after=asked_to_wait(error)) from error
    except (BotoCoreError, OSError) as error:
        raise _unavailable(location) from error


def asked_to_wait(error: ClientError) -> float | None:
    """Return the seconds that S3 asked to wait, if it did."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return retry_after_seconds(headers.get("retry-after"), now=time.time())


def _unavailable(location: S3Location, *, retry_after: float | None = None) -> AnalysisError:
    return AnalysisError(
        "media_unavailable",
        f"Could not read {location.url}",
        retryable=True,
        retry_after=retry_after,
    )


def _copy(
    client: "S3Client",
    location: S3Location,
    target: Path,
    max_bytes: int,
    check: "Callable[[], None]",
) -> None:
    answer = client.get_object(Bucket=location.bucket, Key=location.key)
    count = 0
    with closing(answer["Body"]) as body, target.open("wb") as file:
        for chunk in body.iter_chunks(_CHUNK_BYTES):
            check()
            count += len(chunk)
            if count > max_bytes:
                raise AnalysisError(
                    "media_too_large", f"{location.url} has more than {max_bytes} bytes"
                )
            file.write(chunk)
