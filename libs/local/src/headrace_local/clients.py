"""boto3 clients for the local servers."""

import threading
from typing import TYPE_CHECKING, Final

from headrace_common.settings import S3Settings, SqsSettings
from headrace_common.sqs import sqs_client
from headrace_common.storage import s3_client
from headrace_local.environment import REGION

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: `boto3.client` uses one session of the process, and a session is not safe to share.
_MAKING: Final = threading.Lock()
_READ_TIMEOUT_SECONDS: Final = 20


def local_s3_client(
    url: str, *, aws_access_key_id: str, aws_secret_access_key: str, region_name: str = REGION
) -> "S3Client":
    """Make a client for the S3 server at `url`, which gives up after seconds."""
    settings = S3Settings.model_validate(
        {
            "s3_endpoint_url": url,
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_region": region_name,
            "s3_connect_timeout_seconds": 1,
            "s3_read_timeout_seconds": _READ_TIMEOUT_SECONDS,
        }
    )
    with _MAKING:
        return s3_client(settings)


def local_sqs_client(
    url: str, *, aws_access_key_id: str, aws_secret_access_key: str, region_name: str = REGION
) -> "SQSClient":
    """Make a client for the SQS server at `url`."""
    settings = SqsSettings.model_validate(
        {
            "sqs_endpoint_url": url,
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_region": region_name,
            "use_sqs_queue": False,
        }
    )
    with _MAKING:
        return sqs_client(settings)
