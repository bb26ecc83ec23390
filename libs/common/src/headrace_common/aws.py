"""boto3 clients: made once at boot and shared by threads, which sessions may not be."""

from typing import Any

from botocore.config import Config

from headrace_common.settings import AwsSettings


def client_arguments(
    settings: AwsSettings, *, connect_timeout: float, read_timeout: float, **config: Any
) -> dict[str, Any]:
    """Return the keyword arguments that every `boto3.client` call of ours takes.

    Args:
        settings: credentials, region, and the size of the connection pool.
        connect_timeout: seconds.
        read_timeout: seconds; above the wait of a long poll.
        config: more options of `botocore.config.Config`.
    """
    secret, session_token = settings.aws_secret_access_key, settings.aws_session_token
    return {
        "region_name": settings.aws_region,
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": secret.get_secret_value() if secret else None,
        "aws_session_token": session_token.get_secret_value() if session_token else None,
        "config": Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_connections=settings.aws_max_connections,
            retries={"mode": "standard", "total_max_attempts": 3},
            **config,
        ),
    }
