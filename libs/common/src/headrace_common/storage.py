"""S3, and servers that speak it: the client, `s3://` URLs, and which of them are allowed."""

import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import boto3
from botocore.exceptions import ClientError

from headrace_common.aws import client_arguments
from headrace_common.aws_calls import measure
from headrace_common.circuit import CircuitBreaker
from headrace_common.errors import UnprocessableError
from headrace_common.retry_after import retry_after_seconds
from headrace_common.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Bucket names after https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3_URL: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")
#: S3 takes keys of at most so many bytes of UTF-8.
_MAX_KEY_BYTES: Final = 1_024
#: "Slow down", as servers other than AWS say it; AWS says 503.
_BUSY: Final = frozenset({429})
#: What a server never does, for which it is not at fault.
_NOT_IMPLEMENTED: Final = 501


class S3Location(NamedTuple):
    """A bucket and a key in it."""

    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The location as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an `s3://bucket/key` URL.

        Raises:
            UnprocessableError: `url` is not one.
        """
        match = _S3_URL.fullmatch(url)
        if match is None or len(match["key"].encode()) > _MAX_KEY_BYTES:
            raise UnprocessableError(f"not an s3://bucket/key URL: {url[:200]!r}")
        return cls(match["bucket"], match["key"])


def allowed_location(url: str, settings: S3Settings) -> S3Location:
    """Read an `s3://` URL that comes from outside, and check that its bucket may be used.

    Raises:
        UnprocessableError: not such a URL, or a bucket that is neither S3_BUCKET nor in
            S3_ALLOWED_BUCKETS.
    """
    location = S3Location.parse(url)
    if location.bucket not in {settings.s3_bucket, *settings.s3_allowed_buckets}:
        raise UnprocessableError(
            f"bucket {location.bucket!r} is not allowed; S3_ALLOWED_BUCKETS names those that are"
        )
    return location


def s3_client(settings: S3Settings) -> "S3Client":
    """Make an S3 client for AWS, or for the compatible server that S3_ENDPOINT_URL names."""
    compatible = settings.s3_endpoint_url is not None
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        **client_arguments(
            settings,
            connect_timeout=settings.s3_connect_timeout_seconds,
            read_timeout=settings.s3_read_timeout_seconds,
            signature_version="s3v4",
            s3={"addressing_style": "path" if compatible else "auto"},
            # Servers other than AWS reject the trailing checksums that botocore adds since
            # 1.36: https://github.com/boto/boto3/issues/4392
            request_checksum_calculation="when_required" if compatible else "when_supported",
            response_checksum_validation="when_required" if compatible else "when_supported",
        ),
    )
    measure(client)
    return client


def s3_signing_client(settings: S3Settings) -> "S3Client":
    """Make a client that signs URLs for others: with the endpoint by which they reach S3."""
    endpoint = settings.s3_public_endpoint_url or settings.s3_endpoint_url
    return s3_client(settings.model_copy(update={"s3_endpoint_url": endpoint}))


def guard(client: "S3Client", breaker: CircuitBreaker) -> None:
    """Let a circuit breaker decide on every call of `client`, and learn from its answers.

    A call counts once, after botocore's own tries. An answer below 500 is one of a server that
    works, a 404 for instance; 429 and 5xx are not. While the breaker is open a call raises
    `CircuitOpenError`.
    """

    def before(**_: Any) -> None:
        breaker.check()

    def answered(*, http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        status = http_response.status_code
        if status in _BUSY or (status >= 500 and status != _NOT_IMPLEMENTED):
            code = parsed.get("Error", {}).get("Code", "")
            header = http_response.headers.get("retry-after")
            after = retry_after_seconds(header, now=time.time())
            breaker.failed(f"S3 answered {status} {code}".strip(), retry_after=after)
        else:
            breaker.succeeded()

    def silent(*, exception: Exception, **_: Any) -> None:
        breaker.failed(type(exception).__name__)

    client.meta.events.register("before-call.s3", before)
    client.meta.events.register("after-call.s3", answered)
    client.meta.events.register("after-call-error.s3", silent)


def ensure_bucket(client: "S3Client", bucket: str) -> None:
    """Create `bucket` where it is missing (local use and tests; AWS has infrastructure code)."""
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    else:
        return
    try:
        client.create_bucket(Bucket=bucket)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        return
