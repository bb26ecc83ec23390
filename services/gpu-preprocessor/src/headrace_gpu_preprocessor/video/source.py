"""Where the decoder's bytes come from: fetches what the playlist lists, through the guard."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import structlog

from headrace_common.errors import HeadraceError
from headrace_common.netguard import (
    AddressRefusedError,
    FetchTimeoutError,
    FetchTooLargeError,
    NetGuard,
    RedirectsRefusedError,
    TruncatedError,
    UpstreamStatusError,
    UrlRefusedError,
)
from headrace_gpu_preprocessor.video import errors
from headrace_gpu_preprocessor.video.decrypt import KEY_BYTES, decrypted
from headrace_gpu_preprocessor.video.limits import ReadLimits
from headrace_gpu_preprocessor.video.playlist import (
    Key,
    MediaPlaylist,
    Resource,
    Variant,
    choose_variant,
    parse,
)

log = structlog.get_logger()

#: A master playlist that leads to a master playlist is odd; two of them lead round in a circle.
_MAX_MASTERS: Final = 2
#: A frozen stream is one whose playlist did not change for so many target durations.
_FROZEN_TARGETS: Final = 3
_MEANINGS: Final[tuple[tuple[type[HeadraceError], type[errors.VideoError]], ...]] = (
    (FetchTimeoutError, errors.StreamStalledError),
    (TruncatedError, errors.StreamTruncatedError),
    (FetchTooLargeError, errors.StreamTooLargeError),
)
_REFUSALS: Final = (AddressRefusedError, UrlRefusedError, RedirectsRefusedError)


class Source:
    """One stream: its playlist, kept fresh, and its segments by name."""

    def __init__(
        self,
        url: str,
        guard: NetGuard,
        limits: ReadLimits,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the source; nothing is fetched yet.

        Args:
            url: of a master or media playlist.
            guard: that every request goes through.
            limits: of this clip.
            deadline: on the clock, for everything.
            clock: in seconds.
        """
        self._url = url
        self._guard = guard
        self._limits = limits
        self._deadline = deadline
        self._clock = clock
        self._names: dict[Resource, str] = {}
        self._resources: dict[str, Resource] = {}
        self._keys: dict[str, bytes] = {}
        self._playlist: MediaPlaylist | None = None
        self._grew_at = clock()
        self.variant: Variant | None = None
        self.live = False
        self.bytes_read = 0
        self.faults: list[HeadraceError] = []

    def start(self, body: bytes | None = None) -> None:
        """Find the media playlist, through master playlists if there are any.

        Args:
            body: the first playlist, where it has been fetched.

        Raises:
            HeadraceError: it cannot be had, or is none.
        """
        for _ in range(_MAX_MASTERS + 1):
            found = self._load() if body is None else parse(_text(body), self._url)
            body = None
            if isinstance(found, MediaPlaylist):
                if not found.segments and found.ended:
                    raise errors.BadPlaylistError("the playlist has no segments")
                self._playlist, self.live = found, not found.ended
                self._grew_at = self._clock()
                return
            self.variant = choose_variant(found, self._limits.output_pixels)
            self._url = self.variant.url
        raise errors.BadPlaylistError("master playlists lead to master playlists")

    def playlist(self) -> bytes:
        """Return the playlist for the decoder: fresh if it lives, ended if it froze or failed."""
        current = self._playlist
        if current is None:
            raise RuntimeError("start comes first")
        if self.live and self._names:
            current = self._reload(current)
        self._playlist = current
        ended = current.ended or self._frozen(current)
        return current.render(self._name, ended=ended).encode()

    def segment(self, name: str, stack: ExitStack) -> Iterator[bytes]:
        """Open a segment by the name that the playlist gave it.

        Args:
            name: from the playlist.
            stack: closes the connection.

        Raises:
            HeadraceError: while opening or reading; `note` says which of them are fatal.
        """
        resource = self._resources.get(name)
        if resource is None:
            raise errors.DecoderCrashedError("the decoder asked for what no playlist lists")
        key = self._key(resource.key) if resource.key else None
        response = stack.enter_context(
            self._guard.open(
                resource.url,
                headers=_range_header(resource),
                max_bytes=self._limits.segment_bytes,
                total_seconds=self.left(),
            )
        )
        chunks = self._counted(_ranged(iter(response), resource, whole=response.status == 200))
        if resource.key and key is not None:
            return decrypted(chunks, key, resource.key.iv)
        return chunks

    def note(self, error: HeadraceError) -> None:
        """Take note of a fault that the stream may survive.

        Raises:
            HeadraceError: it may not: a refusal, a limit, or one fault too many.
        """
        if isinstance(error, (*_REFUSALS, errors.DecoderCrashedError)):
            raise error
        self.left()
        named = named_error(error)
        log.info("video.fault", code=named.code, detail=named.detail)
        self.faults.append(named)
        if isinstance(named, errors.StreamTooLargeError) or len(self.faults) >= self._limits.faults:
            raise named from error

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            VideoTimeLimitError: none are.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise errors.VideoTimeLimitError("reading the clip took longer than it may")
        return left

    def _load(self) -> tuple[Variant, ...] | MediaPlaylist:
        try:
            with self._guard.open(
                self._url,
                max_bytes=self._limits.playlist_bytes,
                total_seconds=self.left(),
            ) as response:
                body = b"".join(self._counted(iter(response)))
        except FetchTooLargeError as error:
            raise errors.PlaylistTooLargeError(error.detail) from error
        except HeadraceError as error:
            self.left()
            raise named_error(error) from error
        return parse(_text(body), response.url)

    def _reload(self, current: MediaPlaylist) -> MediaPlaylist:
        """Return the newer playlist, or the one there was while the server has trouble."""
        try:
            found = self._load()
        except HeadraceError as error:
            self.note(error)
            return current
        if not isinstance(found, MediaPlaylist):
            self.note(errors.BadPlaylistError("the playlist became a master playlist"))
            return current
        if found.last_sequence != current.last_sequence or found.ended:
            self._grew_at = self._clock()
        return found

    def _frozen(self, current: MediaPlaylist) -> bool:
        allowed = max(self._limits.frozen_seconds, _FROZEN_TARGETS * current.target_seconds)
        if current.ended or self._clock() - self._grew_at < allowed:
            return False
        self.faults.append(errors.StreamFrozenError(f"no new segment for {allowed:g} s"))
        return True

    def _name(self, resource: Resource, extension: str) -> str:
        name = self._names.get(resource)
        if name is None:
            name = f"{len(self._names)}.{extension}"
            self._names[resource] = name
            self._resources[name] = resource
        return name

    def _key(self, key: Key) -> bytes:
        found = self._keys.get(key.url)
        if found is None:
            with self._guard.open(
                key.url, max_bytes=KEY_BYTES * 4, total_seconds=self.left()
            ) as response:
                found = response.read()
            self._keys[key.url] = found
        return found

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes_read += len(chunk)
            if self.bytes_read > self._limits.total_bytes:
                raise errors.StreamTooLargeError(f"more than {self._limits.total_bytes} bytes")
            yield chunk


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def named_error(error: HeadraceError) -> HeadraceError:
    """Return what an error of the network means for a stream."""
    if isinstance(error, (errors.VideoError, *_REFUSALS)):
        return error
    if isinstance(error, UpstreamStatusError) and error.answered in {404, 410}:
        return errors.StreamNotFoundError(error.detail)
    meaning = next(
        (meaning for kind, meaning in _MEANINGS if isinstance(error, kind)),
        errors.StreamUnavailableError,
    )
    return meaning(error.detail)


def _range_header(resource: Resource) -> dict[str, str]:
    part = resource.byte_range
    return {"Range": f"bytes={part.start}-{part.start + part.length - 1}"} if part else {}


def _ranged(chunks: Iterator[bytes], resource: Resource, *, whole: bool) -> Iterator[bytes]:
    """Cut the range out by hand if the server sent the whole resource."""
    part = resource.byte_range
    if part is None or not whole:
        yield from chunks
        return
    skip, left = part.start, part.length
    for chunk in chunks:
        wanted = chunk[skip : skip + left]
        skip = max(0, skip - len(chunk))
        left -= len(wanted)
        if wanted:
            yield wanted
        if left <= 0:
            return
