"""Writing one object to S3 as its bytes arrive, in bounded memory.

A file below one part goes up in one put; a longer one as a multipart upload, several parts at
a time from threads. The buffers are made once and used again, so that memory neither grows
with the file nor is scattered by it.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_common.circuit import CircuitOpenError
from headrace_common.errors import ConflictError, UnavailableError
from headrace_common.retry_after import retry_after_seconds
from headrace_common.storage import S3Location
from headrace_ingest_api.threads import S3Threads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = structlog.get_logger()
T = TypeVar("T")


#: A HEAD has no body, and so no better code than its status.
_GONE: Final = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
_RETRY_SECONDS: Final = 5.0


class StorageUnavailableError(UnavailableError):
    """S3 is away, or refuses what this service must be able to do."""

    code = "storage_unavailable"
    title = "Storage is not available"


class ObjectMissingError(ConflictError):
    """S3 has nothing of it any more: trying again brings nothing back."""

    code = "object_missing"
    title = "Storage has nothing of it"


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn what boto3 raises into an error that tells a client whether to try again.

    Args:
        doing: what fails here, for the log.

    Raises:
        ObjectMissingError: the object, or the multipart upload, is gone for good.
        StorageUnavailableError: everything else, wrong credentials of ours included.
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        log.warning("storage.failed", doing=doing, error=str(error)[:500])
        if s3_error_code(error) in _GONE:
            raise ObjectMissingError("the storage has nothing of this recording") from error
        raise StorageUnavailableError(
            "the storage for recordings does not answer", retry_after=_retry_after(error)
        ) from error


def s3_error_code(error: BotoCoreError | ClientError) -> str:
    """Return S3's own code of an error; empty where S3 said nothing."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def _retry_after(error: BotoCoreError | ClientError) -> float:
    """Return the seconds that S3 asked to wait, or a few."""
    answer: Any = error.response if isinstance(error, ClientError) else {}
    header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after")
    return retry_after_seconds(header, now=time.time()) or _RETRY_SECONDS


@dataclass(frozen=True)
class PartPlan:
    """How an object is cut, and how many parts go up at the same time."""

    part_bytes: int
    in_flight: int


class ObjectWriter:
    """One object on its way to S3. Memory: `part_bytes * (in_flight + 1)` at most."""

    def __init__(
        self,
        client: "S3Client",
        threads: S3Threads,
        location: S3Location,
        *,
        content_type: str,
        plan: PartPlan,
    ) -> None:
        """Prepare; nothing is sent before there is a whole part, or `finish`."""
        self._client = client
        self._threads = threads
        self._location = location
        self._content_type = content_type
        self._plan = plan
        self._buffers = plan.in_flight + 1
        self._free: asyncio.Queue[bytearray] = asyncio.Queue()
        self._buffer: bytearray | None = None
        self._filled = 0
        self._upload_id: str | None = None
        self._sending: list[asyncio.Task[CompletedPartTypeDef]] = []
        self._calls: set[asyncio.Task[Any]] = set()
        self._touched = False

    async def write(self, data: bytes | memoryview) -> None:
        """Take `data`, and wait while as many parts are on their way as may be.

        Raises:
            StorageUnavailableError: a part did not get through.
        """
        rest = memoryview(data)
        while rest:
            buffer = self._buffer or await self._next_buffer()
            taken = min(len(rest), len(buffer) - self._filled)
            buffer[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == len(buffer):
                await self._send_part()

    @property
    def buffered_whole(self) -> bytes | None:
        """Everything written, while nothing has been sent; None after that."""
        if self._touched:
            return None
        return bytes(memoryview(self._buffer)[: self._filled]) if self._buffer else b""

    async def finish(self) -> None:
        """Send the rest and make the object appear.

        Raises:
            StorageUnavailableError: it did not get through.
        """
        if self._upload_id is None:
            await self._to_its_end(self._put())
            return
        if self._filled:
            await self._send_part()
        await self._to_its_end(self._complete())

    async def discard(self) -> None:
        """Leave nothing in S3, whatever was sent; not raising, as this follows another failure.

        What S3 does not take now is left to the house-keeping of abandoned uploads.
        """
        # What is still being sent would survive the abortion of its upload.
        await asyncio.gather(*self._sending, *self._calls, return_exceptions=True)
        if not self._touched:
            return
        bucket, key = self._location
        try:
            if self._upload_id is not None:
                await self._threads.run(
                    self._client.abort_multipart_upload,
                    Bucket=bucket,
                    Key=key,
                    UploadId=self._upload_id,
                )
            await self._threads.run(self._client.delete_object, Bucket=bucket, Key=key)
        except (BotoCoreError, ClientError, CircuitOpenError) as error:
            log.warning("upload.not_discarded", key=key, error=str(error)[:500])

    async def _complete(self) -> None:
        parts = await asyncio.gather(*self._sending)
        with storage_errors("complete"):
            await self._threads.run(
                self._client.complete_multipart_upload,
                Bucket=self._location.bucket,
                Key=self._location.key,
                UploadId=self._upload_id or "",
                MultipartUpload={"Parts": parts},
            )
        self._upload_id = None

    async def _put(self) -> None:
        body = self.buffered_whole or b""
        self._touched = True
        with storage_errors("put"):
            await self._threads.run(
                self._client.put_object,
                Bucket=self._location.bucket,
                Key=self._location.key,
                Body=body,
                ContentType=self._content_type,
            )

    async def _next_buffer(self) -> bytearray:
        """Return a buffer to fill, waiting for one to come back if all are on their way."""
        for task in self._sending:
            if task.done():
                task.result()  # a failed part ends the upload now, not at its end
        if self._buffers and self._free.empty():
            self._buffers -= 1
            self._buffer = bytearray(self._plan.part_bytes)
        else:
            self._buffer = await self._free.get()
        self._filled = 0
        return self._buffer

    async def _send_part(self) -> None:
        if self._upload_id is None:
            await self._to_its_end(self._begin())
        if self._buffer is None:
            return
        whole = self._filled == len(self._buffer)
        body = self._buffer if whole else self._buffer[: self._filled]
        number = len(self._sending) + 1
        self._sending.append(asyncio.create_task(self._send(number, body, self._buffer)))
        self._buffer, self._filled = None, 0

    async def _to_its_end(self, call: Coroutine[Any, Any, T]) -> T:
        """Await `call`, which goes on if we are cancelled: `discard` has to know its outcome."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        return await asyncio.shield(task)

    async def _begin(self) -> None:
        self._touched = True
        with storage_errors("begin"):
            begun = await self._threads.run(
                self._client.create_multipart_upload,
                Bucket=self._location.bucket,
                Key=self._location.key,
                ContentType=self._content_type,
            )
        self._upload_id = begun["UploadId"]

    async def _send(
        self, number: int, body: bytearray, buffer: bytearray
    ) -> "CompletedPartTypeDef":
        try:
            with storage_errors("part"):
                sent = await self._threads.run(
                    self._client.upload_part,
                    Bucket=self._location.bucket,
                    Key=self._location.key,
                    UploadId=self._upload_id or "",
                    PartNumber=number,
                    Body=body,  # type: ignore[arg-type]  # botocore takes it, its stubs do not
                )
            return {"PartNumber": number, "ETag": sent["ETag"]}
        finally:
            self._free.put_nowait(buffer)
