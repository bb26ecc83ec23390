"""OpenStack Swift: one container, and objects that are whole or not there."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
import swiftclient

from headrace_gpu_preprocessor.artifacts.connections import (
    Check,
    Connection,
    Connections,
    no_check,
)
from headrace_gpu_preprocessor.artifacts.errors import (
    ObjectTooLargeError,
    SwiftMisconfiguredError,
    SwiftNotFoundError,
    SwiftUnavailableError,
)
from headrace_gpu_preprocessor.artifacts.settings import SwiftSettings

log = structlog.get_logger()

T = TypeVar("T")
Headers = dict[str, str]

#: The writer's checksum of the content, beside Swift's own (MD5, the ETag).
SHA256_HEADER: Final = "x-object-meta-sha256"
#: A picture of 4K as JPEG, a camera's memory of 4K: both have far less.
MAX_OBJECT_BYTES: Final = 128 * 1024 * 1024
#: Names in one listing; a job has a handful of folders with five objects each.
MAX_LISTED: Final = 10_000
_CHUNK_BYTES: Final = 256 * 1024
#: A server that says nothing for so long is not well.
_PING_SECONDS: Final = 1.5


@dataclass(frozen=True)
class ObjectHead:
    """What Swift knows of an object.

    Attributes:
        name: path within the container.
        bytes: its size.
        md5: of its content, made by Swift; hexadecimal.
        sha256: as the writer told it; None if it did not.
        content_type: its media type.
    """

    name: str
    bytes: int
    md5: str
    sha256: str | None
    content_type: str


@dataclass(frozen=True)
class Put:
    """What became of `put_new`.

    Attributes:
        created: False if an object was there already, which was left as it is.
        head: of what is there now.
    """

    created: bool
    head: ObjectHead


class SwiftStore:
    """One container. Safe for several threads.

    Every method raises a `SwiftError`; what can be repeated at once was repeated before. A `check`
    is called before each request that changes something, and raises to prevent it.
    """

    def __init__(self, settings: SwiftSettings) -> None:
        """Use the settings; nothing is connected to before the first call."""
        self._settings = settings
        self.container = settings.swift_container
        self._connections = Connections(settings)
        # With a token of its own: asking for one may be what does not end.
        self._impatient = Connections(_impatient(settings))

    def release(self) -> None:
        """Close the connection of this thread; the next call opens another."""
        self._connections.release()

    def close(self) -> None:
        """Close all connections; no other thread may use the store any more."""
        self._connections.close()
        self._impatient.close()

    def public_storage_url(self) -> str:
        """Return the URL of the account for those outside, `https://host/v1/AUTH_project`."""
        return self._connections.call(
            "authenticate", lambda _: self._connections.identity.storage_url("public")
        )

    def ping(self) -> None:
        """Ask Swift for the container, which need not be there.

        For readiness, so only once, and not for long: whoever asks that has no patience.
        """
        try:
            self._impatient.call(
                "ping", lambda connection: connection.head_container(self.container), repeat=False
            )
        except SwiftNotFoundError:
            return
        finally:
            self._impatient.release()

    def ensure_container(self) -> None:
        """Make the container where it is missing, and set the keys of links where they differ.

        Several processes may do it at once: making what is there changes nothing.
        """
        wanted = self._container_headers()

        def ensure(connection: Connection) -> None:
            try:
                found = connection.head_container(self.container)
            except swiftclient.ClientException as error:
                if error.http_status != 404:
                    raise
                connection.put_container(self.container, headers=wanted)
                log.info("swift.container_created", container=self.container)
                return
            if any(found.get(name) != value for name, value in wanted.items()):
                connection.post_container(self.container, wanted)
                log.info("swift.container_updated", container=self.container)

        self._connections.call("ensure_container", ensure)

    def put_new(self, name: str, data: bytes, content_type: str, *, check: Check = no_check) -> Put:
        """Store an object unless one of this name is there.

        A request whose answer was lost is repeated and may then find its own object: compare
        hashes. Of two that come at the very same time Swift may take both and keep the later:
        what is there is known only by asking again.
        """

        def put(connection: Connection) -> bool:
            try:
                status = self._send(connection, name, data, content_type, {"if-none-match": "*"})
            except swiftclient.ClientException as error:
                if error.http_status != 412:
                    raise
                return False
            # 202: the object that is there is newer than this request, which changed nothing.
            return status == 201

        created = self._write(put, check)
        if (head := self.head(name)) is None:
            raise SwiftUnavailableError(f"{name} was there a moment ago: others change it")
        return Put(created, head)

    def put(self, name: str, data: bytes, content_type: str) -> None:
        """Store an object in place of any that is there: the last writer wins."""
        self._write(
            lambda connection: self._send(connection, name, data, content_type, {}), no_check
        )

    def get(self, name: str, *, most_bytes: int = MAX_OBJECT_BYTES) -> bytes | None:
        """Return an object's content; None if it is not there.

        Raises:
            ObjectTooLargeError: it has more bytes than `most_bytes`, and was not read.
            SwiftError: as always.
        """

        def get(connection: Connection) -> bytes:
            headers, body = connection.get_object(
                self.container, name, resp_chunk_size=_CHUNK_BYTES
            )
            try:
                size = int(headers["content-length"])
                if size > most_bytes:
                    raise ObjectTooLargeError(f"{name} has {size} bytes, {most_bytes} are read")
                data = b"".join(body)
            finally:
                body.close()
            if len(data) != size:
                raise SwiftUnavailableError(f"{name} was cut off at {len(data)} of {size} bytes")
            return data

        return self._find("get", get)

    def head(self, name: str) -> ObjectHead | None:
        """Return what Swift knows of an object; None if it is not there."""

        def head(connection: Connection) -> ObjectHead:
            headers = connection.head_object(self.container, name)
            return ObjectHead(
                name=name,
                bytes=int(headers["content-length"]),
                md5=headers["etag"].strip('"'),
                sha256=headers.get(SHA256_HEADER),
                content_type=headers.get("content-type", ""),
            )

        return self._find("head", head)

    def list_names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, sorted, at most MAX_LISTED.

        Swift's listings lag behind: what was just written may be missing, what was just deleted
        may be there.
        """
        return [each["name"] for each in self._list(prefix, None) if "name" in each]

    def list_folders(self, prefix: str) -> list[str]:
        """Return the paths one step below `prefix`, each with a slash at its end, sorted."""
        return [each["subdir"] for each in self._list(prefix, "/") if "subdir" in each]

    def delete(self, name: str, *, check: Check = no_check) -> None:
        """Delete an object; one that is not there is fine."""
        self._find(
            "delete", lambda connection: connection.delete_object(self.container, name), check
        )

    def _list(self, prefix: str, delimiter: str | None) -> list[dict[str, Any]]:
        def page(connection: Connection) -> list[dict[str, Any]]:
            _, found = connection.get_container(
                self.container, prefix=prefix, delimiter=delimiter, limit=MAX_LISTED
            )
            return [*found]

        return self._find("list", page) or []

    def _find(
        self, operation: str, do: Callable[[Connection], T], check: Check = no_check
    ) -> T | None:
        try:
            return self._connections.call(operation, do, check)
        except SwiftNotFoundError:
            return None

    def _write(self, do: Callable[[Connection], T], check: Check) -> T:
        """Write into the container, which is made if it turns out to be missing."""
        try:
            return self._connections.call("put", do, check)
        except SwiftNotFoundError:
            log.info("swift.container_missing", container=self.container)
        try:
            self.ensure_container()
            return self._connections.call("put", do, check)
        except SwiftNotFoundError as error:
            # It is the account that is missing: no object can be written by any job.
            raise SwiftMisconfiguredError(f"no container can be made: {error.detail}") from None

    def _send(
        self, connection: Connection, name: str, data: bytes, content_type: str, headers: Headers
    ) -> int:
        """Send an object; return the status of the answer."""
        answer: dict[str, Any] = {}
        connection.put_object(
            self.container,
            name,
            # As a file it is sent in pieces, each with a time-out of its own.
            io.BytesIO(data),
            content_length=len(data),
            etag=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            content_type=content_type,
            headers={SHA256_HEADER: hashlib.sha256(data).hexdigest(), **headers},
            response_dict=answer,
        )
        return int(answer["status"])

    def _container_headers(self) -> Headers:
        settings = self._settings
        headers = {"x-container-meta-purpose": "Artefacts of Headrace's camera jobs"}
        for name, key in (
            ("x-container-meta-temp-url-key", settings.swift_temp_url_key),
            ("x-container-meta-temp-url-key-2", settings.swift_temp_url_key_2),
        ):
            if key is not None:
                headers[name] = key.get_secret_value()
        return headers


def _impatient(settings: SwiftSettings) -> SwiftSettings:
    """Return the settings for a short question."""
    names = ("swift_connect_timeout_seconds", "swift_read_timeout_seconds")
    shorter = {name: min(getattr(settings, name), _PING_SECONDS) for name in names}
    return settings.model_copy(update=shorter)
