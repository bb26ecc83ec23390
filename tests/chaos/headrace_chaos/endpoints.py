"""Where everything of a stack is, for those who look at it or use it and must not be disturbed.

The services of a stack under chaos reach the servers, and each other, through proxies that
misbehave. Whoever uploads jobs or checks them afterwards goes straight to the real ports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Endpoints:
    """Addresses and secrets of one stack; no proxy is on the way to any of them.

    Attributes:
        directory: the stack's.
        api_key: has every scope.
        services: URL of every replica by name: `ingest-api`, `dispatcher`, `dispatcher-2` ...
        settings: what a service gets as its environment, with the real ports: DATABASE_URL,
            REDIS_URL, REDIS_PASSWORD, S3_ENDPOINT_URL, S3_BUCKET, SQS_ENDPOINT_URL,
            SQS_QUEUE_URL, ..._HIGH, ..._LOW, SQS_RESULT_QUEUE_URL, AWS_ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY, AWS_REGION, OS_AUTH_URL, OS_..., SWIFT_CONTAINER,
            SWIFT_TEMP_URL_KEY, META_VERIFY_KEYS, WEBHOOK_SECRETS, CALLBACK_TOKEN_SECRETS, and
            the settings of the chaos run.
        swift_url: scheme, host and port of Swift itself. The catalogue that Keystone hands out
            names its proxy; `straight` replaces it.
        proxied: from `host:port` of each proxy to `host:port` of what is behind it.
    """

    directory: Path
    api_key: str
    services: Mapping[str, str]
    settings: Mapping[str, str]
    swift_url: str
    proxied: Mapping[str, str]

    def service(self, name: str) -> str:
        """Return the URL of the first replica of a service.

        Raises:
            KeyError: it is not in this stack.
        """
        return self.services[name]

    def replicas(self, name: str) -> Sequence[str]:
        """Return the URLs of all replicas of a service, the first one first."""
        return [
            url
            for replica, url in sorted(self.services.items())
            if replica == name or replica.removeprefix(f"{name}-").isdigit()
        ]

    @property
    def ingest_urls(self) -> Sequence[str]:
        """The replicas of ingest-api."""
        return self.replicas("ingest-api")

    @property
    def results_urls(self) -> Sequence[str]:
        """The replicas of results."""
        return self.replicas("results")

    @property
    def dispatcher_urls(self) -> Sequence[str]:
        """The replicas of the dispatcher."""
        return self.replicas("dispatcher")

    @property
    def headers(self) -> dict[str, str]:
        """What goes with every request to a service."""
        return {"authorization": f"Bearer {self.api_key}"}

    @property
    def database_url(self) -> str:
        """Postgres, with the password."""
        return self.settings["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        """Valkey, without the password."""
        return self.settings["REDIS_URL"]

    @property
    def redis_password(self) -> str:
        """Valkey's password."""
        return self.settings["REDIS_PASSWORD"]

    @property
    def aws(self) -> dict[str, Any]:
        """Keyword arguments of `boto3.client` besides the endpoint: region and keys."""
        return {
            "region_name": self.settings["AWS_REGION"],
            "aws_access_key_id": self.settings["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.settings["AWS_SECRET_ACCESS_KEY"],
        }

    @property
    def queue_urls(self) -> Sequence[str]:
        """Every SQS queue but the dead-letter queues, which their redrive policies name."""
        names = ("SQS_QUEUE_URL_HIGH", "SQS_QUEUE_URL", "SQS_QUEUE_URL_LOW", "SQS_RESULT_QUEUE_URL")
        return list(dict.fromkeys(self.settings[name] for name in names if name in self.settings))

    def straight(self, url: str) -> str:
        """Return a URL that a service gave out with its proxy replaced by what is behind it."""
        for proxy, real in self.proxied.items():
            url = url.replace(f"://{proxy}", f"://{real}", 1)
        return url
