"""A plain video file from a URL: fetched under limits into a nameless file, then read anywhere.

MP4 may keep its index at the end, so that the whole file is there before decoding begins.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Final

from headrace_common.errors import HeadraceError
from headrace_common.netguard import FetchTooLargeError, NetGuard, Response
from headrace_gpu_preprocessor.video import errors
from headrace_gpu_preprocessor.video.limits import ReadLimits
from headrace_gpu_preprocessor.video.sniff import HEAD_BYTES, HLS, Kind, sniff
from headrace_gpu_preprocessor.video.source import Source, named_error

#: Smaller files stay in memory.
_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024


class FileSource:
    """One video file, whole and local."""

    live = False

    def __init__(self, container: str, deadline: float, clock: Callable[[], float]) -> None:
        """Make an empty one.

        Args:
            container: as FFmpeg names it.
            deadline: on the clock, for everything.
            clock: in seconds.
        """
        self.container = container
        self.faults: list[HeadraceError] = []
        self.bytes_read = 0
        self._deadline = deadline
        self._clock = clock
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - `close`

    def write(self, chunk: bytes, most: int) -> None:
        """Add bytes that came.

        Raises:
            StreamTooLargeError: more than may come.
            VideoTimeLimitError: no time is left.
        """
        self.left()
        self.bytes_read += len(chunk)
        if self.bytes_read > most:
            raise errors.StreamTooLargeError(f"the file has more than {most} bytes")
        self._file.write(chunk)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes from anywhere; none beyond the end."""
        self._file.seek(min(offset, self.bytes_read))
        return self._file.read(size)

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            VideoTimeLimitError: none are.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise errors.VideoTimeLimitError("reading the clip took longer than it may")
        return left

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def open_source(
    url: str, kind: Kind, *, guard: NetGuard, limits: ReadLimits, deadline: float
) -> Source | FileSource:
    """Find out what is at a URL and begin with it: a playlist is read, a file fetched whole.

    Args:
        url: from outside.
        kind: `hls` or `file` where only that will do.
        guard: that every request goes through.
        limits: of the clip.
        deadline: on the monotonic clock.

    Raises:
        HeadraceError: it cannot be had, or is something else.
    """
    if kind == "hls":
        source = Source(url, guard, limits, deadline)
        source.start()
        return source
    left = deadline - time.monotonic()
    try:
        with guard.open(url, max_bytes=limits.file_bytes, total_seconds=left) as response:
            chunks = iter(response)
            head = _head(chunks)
            container = sniff(head)
            if container == HLS:
                if kind == "file":
                    raise errors.NotVideoError("a playlist, not a video file, is at this URL")
                return _playlist_source(response, head, guard, limits, deadline)
            return _fetched(FileSource(container, deadline, time.monotonic), head, chunks, limits)
    except FetchTooLargeError as error:
        raise errors.StreamTooLargeError(error.detail) from error
    except HeadraceError as error:
        if time.monotonic() >= deadline:
            raise errors.VideoTimeLimitError("fetching took longer than it may") from error
        raise named_error(error) from error


def _head(chunks: Iterator[bytes]) -> bytes:
    head = b""
    while len(head) < HEAD_BYTES:
        chunk = next(chunks, None)
        if chunk is None:
            break
        head += chunk
    return head


def _playlist_source(
    response: Response, head: bytes, guard: NetGuard, limits: ReadLimits, deadline: float
) -> Source:
    body = head
    for chunk in response:
        body += chunk
        if len(body) > limits.playlist_bytes:
            raise errors.PlaylistTooLargeError(f"more than {limits.playlist_bytes} bytes")
    source = Source(response.url, guard, limits, deadline)
    source.start(body)
    return source


def _fetched(
    source: FileSource, head: bytes, chunks: Iterator[bytes], limits: ReadLimits
) -> FileSource:
    try:
        source.write(head, limits.file_bytes)
        for chunk in chunks:
            source.write(chunk, limits.file_bytes)
    except BaseException:
        source.close()
        raise
    return source
