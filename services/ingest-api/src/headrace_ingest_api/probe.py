"""Whether a stored file really holds sound, and what its headers tell of it.

mutagen is pure Python, so that a hostile file can make it raise and no more; how much it
reads is bounded by the file that it is given (`ranged.MAX_READ_BYTES`).
"""

import io
import math
from collections.abc import Callable
from typing import Any, Final

import structlog
from mutagen import MutagenError
from mutagen.aac import AAC
from mutagen.flac import FLAC
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4
from mutagen.ogg import OggFileType
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE
from pydantic import BaseModel, ConfigDict, Field

from headrace_common.errors import HeadraceError
from headrace_ingest_api.errors import BrokenAudioError, NoAudioError
from headrace_ingest_api.ranged import MAX_READ_BYTES, BudgetedReader, ReadBudgetError, buffered
from headrace_ingest_api.recognition import Container
from headrace_ingest_api.webm import BadWebmError, read_webm

log = structlog.get_logger()

_OGG_TYPES: Final[tuple[tuple[bytes, str, type[OggFileType]], ...]] = (
    (b"OpusHead", "opus", OggOpus),
    (b"\x01vorbis", "vorbis", OggVorbis),
    (b"\x7fFLAC", "flac", OggFLAC),
    (b"Speex   ", "speex", OggSpeex),
)
#: Opus always decodes to this, whatever its file says of the input:
#: https://www.rfc-editor.org/rfc/rfc7845#section-5.1
_OPUS_RATE_HZ: Final = 48_000
_OGG_HEAD_BYTES: Final = 512


class AudioFacts(BaseModel):
    """What is known of a recording; kept in the job's metadata as `audio`."""

    model_config = ConfigDict(frozen=True)

    format: Container
    codec: str
    duration_seconds: float | None = Field(
        ge=0, description="null where the file does not tell, as those of browsers' recorders"
    )
    sample_rate_hz: int = Field(gt=0)
    channels: int = Field(gt=0)


def probe(container: Container, file: BudgetedReader) -> AudioFacts:
    """Read the headers of a recording.

    Args:
        container: what it was recognised as.
        file: the whole recording.

    Raises:
        BrokenAudioError: it cannot be read as what it claims to be.
        NoAudioError: there is no sound in it.
    """
    reader = buffered(file)
    try:
        facts = _READERS[container](reader)
    except ReadBudgetError:
        raise BrokenAudioError(
            f"the headers of the {container} file take more than {MAX_READ_BYTES >> 20} MiB"
        ) from None
    except (MutagenError, BadWebmError) as error:
        reason = str(error) or "its header cannot be read"
        raise BrokenAudioError(f"the {container} file is broken: {reason}"[:300]) from error
    except HeadraceError:
        raise
    except Exception as error:
        # A parser of foreign bytes: whatever else it raises, the file made it.
        log.warning("probe.parser_failed", container=container, exc_info=error)
        raise BrokenAudioError(f"the {container} file is broken") from error
    if facts["sample_rate_hz"] <= 0 or facts["channels"] <= 0:
        raise BrokenAudioError(f"the {container} file tells no sample rate or no channels")
    return AudioFacts(format=container, **facts)


def _wav(file: Any) -> dict[str, Any]:
    info = _info(WAVE, file)
    if not info.length:
        raise NoAudioError("the WAV file has no samples")
    # A writer that could not go back left the largest number as the length.
    longest = _size_of(file) * 8 / info.bitrate if info.bitrate else 0
    return _facts(info, f"pcm_{info.bits_per_sample}", min(info.length, longest))


def _flac(file: Any) -> dict[str, Any]:
    info = _info(FLAC, file)
    return _facts(info, "flac", info.length)


def _ogg(file: Any) -> dict[str, Any]:
    head = file.read(_OGG_HEAD_BYTES)
    file.seek(0)
    for mark, codec, kind in _OGG_TYPES:
        if mark in head:
            info = _info(kind, file)
            if not info.length:
                raise NoAudioError("the OGG file ends after its headers")
            rate = _OPUS_RATE_HZ if codec == "opus" else info.sample_rate
            return _facts(info, codec, info.length, rate=rate)
    raise BrokenAudioError("the OGG file's codec is not known")


def _mp3(file: Any) -> dict[str, Any]:
    info = _info(MP3, file)
    if info.sketchy:
        raise BrokenAudioError("the MP3 file has no run of valid frames")
    return _facts(info, f"mp{info.layer}", info.length)


def _mp4(file: Any) -> dict[str, Any]:
    info = _info(MP4, file)
    if not info.codec:  # mutagen's answer to a film
        raise NoAudioError("the MP4 file has no audio track")
    return _facts(info, info.codec, info.length)


def _aac(file: Any) -> dict[str, Any]:
    info = _info(AAC, file)
    return _facts(info, "aac", info.length)


def _webm(file: Any) -> dict[str, Any]:
    facts = read_webm(file, _size_of(file))
    if facts.track is None or not facts.has_clusters:
        raise NoAudioError("the WebM file has no audio track, or nothing in it")
    return {
        "codec": facts.track.codec.removeprefix("A_").lower(),
        "duration_seconds": facts.duration_seconds,
        "sample_rate_hz": facts.track.sample_rate_hz,
        "channels": facts.track.channels,
    }


def _info(kind: Callable[[Any], Any], file: Any) -> Any:
    """Return what mutagen, which has no types, tells of the stream."""
    return kind(file).info


def _size_of(file: Any) -> int:
    position = file.tell()
    size: int = file.seek(0, io.SEEK_END)
    file.seek(position)
    return size


def _facts(info: Any, codec: str, length: float, *, rate: int | None = None) -> dict[str, Any]:
    known = length and math.isfinite(length) and length > 0
    return {
        "codec": codec,
        "duration_seconds": round(float(length), 3) if known else None,
        "sample_rate_hz": int(rate or info.sample_rate),
        "channels": int(info.channels),
    }


_READERS: Final[dict[Container, Callable[[Any], dict[str, Any]]]] = {
    Container.WAV: _wav,
    Container.FLAC: _flac,
    Container.OGG: _ogg,
    Container.MP3: _mp3,
    Container.M4A: _mp4,
    Container.AAC: _aac,
    Container.WEBM: _webm,
}
