"""What the processes of a stack find in their environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headrace_common.contracts.cctv import DEFAULT_CONTAINER, DEFAULT_UPLOAD_PREFIX
from headrace_common.contracts.lanes import Lane
from headrace_local.credentials import Credentials
from headrace_local.ports import LOOPBACK
from headrace_local.process import MARKER_VARIABLE
from headrace_local.servers.keystone import (
    DOMAIN,
    OPENSTACK_REGION,
    PROJECT,
    USER,
    identity_url,
)
from headrace_local.servers.postgres import Postgres
from headrace_local.services import ANALYSIS, RESULTS, SHUTDOWN_GRACE_SECONDS

if TYPE_CHECKING:
    from headrace_common.sqs import QueueUrls

BUCKET: Final = "headrace-media"
REGION: Final = "us-east-1"

#: Variables of the caller that programs keep. All others could turn a setting of ours around:
#: AWS_PROFILE, PGHOST, DATABASE_URL, PYTHONPATH.
_KEPT: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "LOG_LEVEL",
        "LOGNAME",
        "PATH",
        "SHELL",
        "SSL_CERT_FILE",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
    }
)


def base_environment(directory: Path) -> dict[str, str]:
    """Return what every process of the stack in `directory` gets."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    return {**kept, MARKER_VARIABLE: str(directory), "PYTHONUNBUFFERED": "1"}


def server_settings(ports: Mapping[str, int], credentials: Credentials) -> dict[str, str]:
    """Return the settings by which services find the servers."""
    password = credentials.postgres_password
    return {
        "DATABASE_URL": Postgres.make_url(password=password, port=ports["postgres"]),
        "REDIS_URL": f"redis://{LOOPBACK}:{ports['valkey']}/0",
        "REDIS_PASSWORD": credentials.valkey_password,
        "S3_ENDPOINT_URL": f"http://{LOOPBACK}:{ports['s3']}",
        "S3_BUCKET": BUCKET,
        "SQS_ENDPOINT_URL": f"http://{LOOPBACK}:{ports['sqs']}",
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_REGION": REGION,
        "OS_AUTH_URL": identity_url(ports["keystone"]),
        "OS_USERNAME": USER,
        "OS_PASSWORD": credentials.openstack_password,
        "OS_USER_DOMAIN_NAME": DOMAIN,
        "OS_PROJECT_NAME": PROJECT,
        "OS_PROJECT_DOMAIN_NAME": DOMAIN,
        "OS_REGION_NAME": OPENSTACK_REGION,
        # Where the links to artefacts may lead.
        "SWIFT_STORAGE_URLS": f"http://{LOOPBACK}:{ports['swift']}",
    }


def service_settings(ports: Mapping[str, int], credentials: Credentials) -> dict[str, str]:
    """Return the settings by which services find and trust each other."""
    return {
        "WEBHOOK_URL": f"http://{LOOPBACK}:{ports[RESULTS]}/webhooks/analysis",
        "WEBHOOK_SECRETS": credentials.webhook_secret,
        "CALLBACK_TOKEN_SECRETS": credentials.callback_token_secret,
        "ANALYSIS_SERVER_URL": f"http://{LOOPBACK}:{ports[ANALYSIS]}/analyze",
        # The emulator's wait is cut short, so that a stop is quick; and killed it loses what
        # came within a second, which real SQS does not.
        "ANALYSIS_WAIT_SECONDS": "2",
        "ANALYSIS_HEARTBEAT_SECONDS": "2",
        "ANALYSIS_DEADLINE_SECONDS": "120",
        # A server here is back within seconds.
        "RETRY_BASE_SECONDS": "1",
        "STORAGE_DISCARD_RETRY_SECONDS": "5",
        "STORAGE_SCAN_SECONDS": "60",
        "LOST_AFTER_SECONDS": "10",
        "FIRING_LOST_AFTER_SECONDS": "5",
        "CCTV_LOST_AFTER_SECONDS": "10",
        "SWIFT_CONTAINER": DEFAULT_CONTAINER,
        "SWIFT_UPLOAD_PREFIX": DEFAULT_UPLOAD_PREFIX,
        "SWIFT_TEMP_URL_KEY": credentials.swift_temp_url_key,
        "META_SIGNING_KEY": credentials.meta_signing_key,
        "META_VERIFY_KEYS": credentials.meta_verify_key,
        # Simulated cameras are here; nothing else is asked for a stream.
        "HLS_ALLOWED_HOSTS": LOOPBACK,
        # So that what a killed process had begun is taken up soon.
        "REDIS_VISIBILITY_TIMEOUT": "30",
        "LOG_FORMAT": "json",
        "SHUTDOWN_GRACE_SECONDS": str(SHUTDOWN_GRACE_SECONDS),
    }


def queue_settings(queues: "QueueUrls", *, port: int) -> dict[str, str]:
    """Return the settings that name the SQS queues.

    Args:
        queues: their URLs, with the address at which they were asked for.
        port: where the services reach them.
    """
    urls = {
        "SQS_QUEUE_URL": queues.by_lane[Lane.NORMAL],
        "SQS_QUEUE_URL_HIGH": queues.by_lane[Lane.HIGH],
        "SQS_QUEUE_URL_LOW": queues.by_lane[Lane.LOW],
        "SQS_RESULT_QUEUE_URL": queues.results,
    }
    here = {name: _at(url, port) for name, url in urls.items()}
    return {"USE_SQS_QUEUE": "true", **here}


def _at(url: str, port: int) -> str:
    """Return a URL with another port of the loopback address."""
    return urlsplit(url)._replace(netloc=f"{LOOPBACK}:{port}").geturl()
