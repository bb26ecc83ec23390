"""Keystone: a session that finds Swift and has a token that is good."""

import logging
from typing import Any, Final

import requests
import structlog
from keystoneauth1 import exceptions as keystone
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from requests.adapters import HTTPAdapter

from headrace_gpu_preprocessor.artifacts.errors import (
    SwiftError,
    SwiftMisconfiguredError,
    SwiftUnauthorizedError,
    SwiftUnavailableError,
)
from headrace_gpu_preprocessor.artifacts.settings import SwiftSettings

log = structlog.get_logger()

_SERVICE: Final = "object-store"
#: Requests and answers in full, at DEBUG: nobody's business.
logging.getLogger("keystoneauth").setLevel(logging.WARNING)


class Identity:
    """Keystone, for one process. Safe for several threads.

    A token that is about to end is replaced before it does; one that was refused after `forget`.
    """

    def __init__(self, settings: SwiftSettings) -> None:
        """Use the settings; nothing is connected to yet."""
        self._settings = settings
        self._requests = requests.Session()
        adapter = _TimedAdapter(
            settings.swift_connect_timeout_seconds, settings.swift_read_timeout_seconds
        )
        for scheme in ("http://", "https://"):
            self._requests.mount(scheme, adapter)
        self._session = Session(
            auth=v3.Password(
                auth_url=settings.os_auth_url,
                username=settings.os_username,
                password=settings.os_password.get_secret_value(),
                user_domain_name=settings.os_user_domain_name,
                project_name=settings.os_project_name,
                project_domain_name=settings.os_project_domain_name,
            ),
            session=self._requests,
            verify=settings.os_cacert or True,
            app_name="headrace-gpu-preprocessor",
        )

    def token(self) -> str:
        """Return a token.

        Raises:
            SwiftError: there is none to be had.
        """
        try:
            token = self._session.get_token()
        except keystone.ClientException as error:
            raise self.explain(error) from None
        if not token:
            raise SwiftMisconfiguredError("Keystone answered without a token")
        return token

    def storage_url(self, interface: str | None = None) -> str:
        """Return the URL of the project's account in Swift.

        Args:
            interface: None for SWIFT_INTERFACE.

        Raises:
            SwiftError: the catalogue has none, or cannot be read.
        """
        interface = interface or self._settings.swift_interface
        region = self._settings.os_region_name
        try:
            url = self._session.get_endpoint(
                service_type=_SERVICE, interface=interface, region_name=region
            )
        except keystone.EndpointNotFound:
            url = None
        except keystone.ClientException as error:
            raise self.explain(error) from None
        if url is None:
            where = f" in region {region}" if region else ""
            raise SwiftMisconfiguredError(
                f"Keystone's catalogue has no {interface} {_SERVICE}{where}; "
                "see OS_REGION_NAME, SWIFT_INTERFACE and the project's roles"
            )
        return url.rstrip("/")

    def forget(self, refused: str) -> None:
        """Drop a token that was refused, unless another thread has done so already.

        Raises:
            SwiftError: see `token`.
        """
        if self.token() == refused:
            log.info("swift.token_refused")
            self._session.invalidate()

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()

    def explain(self, error: keystone.ClientException) -> SwiftError:
        """Return what an error of Keystone's library means to us."""
        settings = self._settings
        at = f"Keystone at {settings.os_auth_url}"
        if isinstance(error, keystone.Unauthorized | keystone.Forbidden):
            return SwiftUnauthorizedError(
                f"{at} refuses user {settings.os_username!r} of domain "
                f"{settings.os_user_domain_name!r} for project {settings.os_project_name!r}: "
                "see OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and the domains"
            )
        if isinstance(error, keystone.HttpError) and _may_pass(error.http_status):
            wait = getattr(error, "retry_after", 0)
            return SwiftUnavailableError(
                f"{at} answers {error.http_status}", retry_after=float(wait) or None
            )
        if isinstance(error, keystone.ConnectionError):
            return SwiftUnavailableError(f"{at} does not answer: {str(error)[:300]}")
        return SwiftMisconfiguredError(f"{at} cannot be used: {type(error).__name__}")


class _TimedAdapter(HTTPAdapter):
    """Sets a time-out for connecting and one for reading; Keystone's session knows only one."""

    def __init__(self, connect: float, read: float) -> None:
        self._times = (connect, read)
        super().__init__()

    def send(self, request: Any, **arguments: Any) -> requests.Response:  # type: ignore[override]
        return super().send(request, **{**arguments, "timeout": self._times})


def _may_pass(status: int) -> bool:
    return status in {408, 429} or status >= 500
