"""Links to artefacts in Swift that are good for minutes (temp URLs).

https://docs.openstack.org/swift/latest/api/temporary_url_middleware.html
"""

import hashlib
import hmac
import time
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from headrace_common.contracts.cctv import CctvResult, StoredArtifact
from headrace_results.settings import ResultsSettings

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class SwiftLinks:
    """Signs links, to places that the settings name and to no others.

    What a report says of where things lie is not enough: a link carries our signature.
    """

    def __init__(self, settings: ResultsSettings) -> None:
        """Sign with SWIFT_TEMP_URL_KEY; without one there are no links."""
        key = settings.swift_temp_url_key
        self._key = key.get_secret_value().encode() if key else None
        self._allowed = [_place(url) for url in settings.swift_storage_urls]
        self._container = settings.swift_container
        self._public = settings.swift_public_url
        self._seconds = settings.artifact_url_seconds

    def sign(self, result: CctvResult, artifact: StoredArtifact) -> str | None:
        """Return a URL from which the artefact can be read; None where none may be made.

        None without a key, and for an artefact that lies outside of the set's folder, the
        container SWIFT_CONTAINER or the accounts SWIFT_STORAGE_URLS.
        """
        if self._key is None or not self._may_lead_to(result, artifact):
            return None
        storage = urlsplit(result.storage_url)
        path = f"{storage.path.rstrip('/')}/{result.container}/{artifact.object}"
        expires = int(time.time()) + self._seconds
        signature = hmac.new(self._key, f"GET\n{expires}\n{path}".encode(), hashlib.sha256)
        query = urlencode({"temp_url_sig": signature.hexdigest(), "temp_url_expires": expires})
        base = self._public or f"{storage.scheme}://{storage.netloc}"
        return f"{base}{quote(path)}?{query}"

    def _may_lead_to(self, result: CctvResult, artifact: StoredArtifact) -> bool:
        inside = artifact.object.startswith(result.folder) and result.folder.endswith("/")
        steps = f"{result.storage_url}/{artifact.object}".split("/")[3:]
        plain = not {"", ".", ".."} & set(steps)
        if result.container != self._container or not (inside and plain):
            return False
        try:
            origin, path = _place(result.storage_url)
        except ValueError:
            return False
        return any(
            origin == allowed and (path + "/").startswith(prefix.rstrip("/") + "/")
            for allowed, prefix in self._allowed
        )


def _place(url: str) -> tuple[tuple[str, str, int | None], str]:
    """Return the origin and the path of a URL.

    Raises:
        ValueError: it is none, or carries credentials, a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not the URL of a server")
    if parts.query or parts.fragment:
        raise ValueError("a storage URL has neither query nor fragment")
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return (parts.scheme, parts.hostname, port), parts.path.rstrip("/")
