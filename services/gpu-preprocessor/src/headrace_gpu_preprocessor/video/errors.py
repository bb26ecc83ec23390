"""Why a stream gave no clip. Each code is stable: it goes to the job's record and the DLQ."""

from headrace_common.errors import HeadraceError


class VideoError(HeadraceError):
    """Base of them all."""

    code = "video_error"
    status = 502
    title = "Stream cannot be read"


class StreamNotFoundError(VideoError):
    """The playlist, or most of its segments, answer 404 or 410."""

    code = "stream_not_found"
    title = "Stream not found"
    retryable = True


class StreamUnavailableError(VideoError):
    """The server cannot be reached or answers with an error."""

    code = "stream_unavailable"
    title = "Stream not available"
    retryable = True


class StreamStalledError(VideoError):
    """The server stopped sending."""

    code = "stream_stalled"
    title = "Stream stalled"
    retryable = True


class StreamTruncatedError(VideoError):
    """Answers end before they are whole."""

    code = "stream_truncated"
    title = "Stream cut off"
    retryable = True


class StreamFrozenError(VideoError):
    """A live playlist gets no new segments."""

    code = "stream_frozen"
    title = "Stream frozen"
    retryable = True


class ClipTooShortError(VideoError):
    """The stream ended, with too little of the clip."""

    code = "clip_too_short"
    title = "Clip too short"
    retryable = True


class NotHlsError(VideoError):
    """What is there is not an HLS playlist."""

    code = "not_hls"
    title = "Not a playlist"


class BadPlaylistError(VideoError):
    """The playlist breaks the rules of HLS, or leads round in a circle."""

    code = "bad_playlist"
    title = "Bad playlist"


class PlaylistTooLargeError(VideoError):
    """The playlist has more bytes or entries than are read."""

    code = "playlist_too_large"
    title = "Playlist too large"


class UnsupportedEncryptionError(VideoError):
    """Encrypted in a way other than AES-128."""

    code = "unsupported_encryption"
    title = "Encryption not supported"


class BadKeyError(VideoError):
    """The key does not fit: its length, or the padding of what it decrypts."""

    code = "bad_key"
    title = "Wrong key"


class NoVideoError(VideoError):
    """The stream has no video, sound only for instance."""

    code = "no_video"
    title = "No video"


class NotVideoError(VideoError):
    """The segments, or the file, are not video that can be decoded; a picture is not either."""

    code = "not_video"
    title = "Not video"


class FrameTooLargeError(VideoError):
    """A frame has more pixels than are decoded."""

    code = "frame_too_large"
    title = "Frame too large"


class TooManyFramesError(VideoError):
    """More frames than a clip of this length can have."""

    code = "too_many_frames"
    title = "Too many frames"


class StreamTooLargeError(VideoError):
    """A segment, or all of them, have more bytes than are read."""

    code = "stream_too_large"
    title = "Stream too large"


class VideoTimeLimitError(VideoError):
    """The clip took longer than it may."""

    code = "video_time_limit"
    title = "Reading took too long"
    retryable = True


class VideoMemoryLimitError(VideoError):
    """Decoding needs more memory than it may."""

    code = "video_memory_limit"
    title = "Decoding needs too much memory"


class DecoderKilledError(VideoError):
    """The decoder was killed from outside, for want of memory mostly; not by its own limits."""

    code = "decoder_killed"
    status = 503
    title = "Decoder killed"
    retryable = True


class DecoderCrashedError(VideoError):
    """The decoder ended by itself; the stream is to blame until shown otherwise."""

    code = "decoder_crashed"
    title = "Decoder crashed"


#: The errors that the decoder names by code.
DECODER_ERRORS: dict[str, type[VideoError]] = {
    error.code: error
    for error in (
        NoVideoError, NotVideoError, FrameTooLargeError, TooManyFramesError,
        VideoMemoryLimitError, DecoderCrashedError,
    )
}  # fmt: skip
