"""Reading a stored object like a file, a range at a time, and never more than a budget."""

import io
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from headrace_common.storage import S3Location
from headrace_ingest_api.objects import storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: One request brings so much: a header and what follows it, an Ogg file's last page.
BLOCK_BYTES: Final = 64 * 1024
#: Headers of recordings take kilobytes, a cover picture some megabytes. What claims more is
#: not read into memory.
MAX_READ_BYTES: Final = 16 * 1024 * 1024


class ReadBudgetError(Exception):
    """The reader wanted more of the file than it may have."""


class BudgetedReader(io.RawIOBase):
    """A seekable file of known size, of which at most a budget is read."""

    def __init__(self, size: int, *, budget: int = MAX_READ_BYTES) -> None:
        """Begin at its start.

        Args:
            size: bytes of the whole file.
            budget: bytes that may be read in all.
        """
        super().__init__()
        self._size = size
        self._budget = budget
        self._position = 0

    @abstractmethod
    def fetch(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; both lie within the file."""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; before the start is an error, as with a real file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill `buffer` from the position on, as far as the file goes.

        Raises:
            ReadBudgetError: the budget is spent.
        """
        length = min(len(buffer), max(0, self._size - self._position))
        if length == 0:
            return 0
        self._budget -= length
        if self._budget < 0:
            raise ReadBudgetError
        buffer[:length] = self.fetch(self._position, length)
        self._position += length
        return length


class BytesFile(BudgetedReader):
    """A file that is in memory."""

    def __init__(self, content: bytes) -> None:
        """Read `content`."""
        super().__init__(len(content))
        self._content = memoryview(content)

    def fetch(self, start: int, length: int) -> bytes:
        """Return a slice."""
        return bytes(self._content[start : start + length])


class S3File(BudgetedReader):
    """An object in S3."""

    def __init__(self, client: "S3Client", location: S3Location, size: int) -> None:
        """Read the object at `location`, of `size` bytes."""
        super().__init__(size)
        self._client = client
        self._location = location

    def fetch(self, start: int, length: int) -> bytes:
        """Ask S3 for a range.

        Raises:
            StorageUnavailableError: S3 does not answer.
        """
        with storage_errors("read"):
            answer = self._client.get_object(
                Bucket=self._location.bucket,
                Key=self._location.key,
                Range=f"bytes={start}-{start + length - 1}",
            )
            return answer["Body"].read()


def buffered(file: BudgetedReader) -> io.BufferedReader:
    """Read `file` in blocks, so that many small reads cost one request."""
    return io.BufferedReader(file, BLOCK_BYTES)
