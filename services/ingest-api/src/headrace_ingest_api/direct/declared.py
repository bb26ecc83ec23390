"""What kind of recording a file is said to be, before a byte of it is seen."""

from typing import Final

from headrace_ingest_api.errors import UnsupportedAudioError
from headrace_ingest_api.recognition import Container

_ENDINGS: Final = {
    **{container.extension: container for container in Container},
    "wave": Container.WAV,
    "oga": Container.OGG,
    "opus": Container.OGG,
    "spx": Container.OGG,
    "mp4": Container.M4A,
    "weba": Container.WEBM,
}
_MEDIA_TYPES: Final = {
    **{container.media_type: container for container in Container},
    "audio/x-wav": Container.WAV,
    "audio/wave": Container.WAV,
    "audio/vnd.wave": Container.WAV,
    "audio/x-flac": Container.FLAC,
    "audio/opus": Container.OGG,
    "application/ogg": Container.OGG,
    "audio/mp3": Container.MP3,
    "audio/x-m4a": Container.M4A,
    "video/mp4": Container.M4A,
    "audio/x-aac": Container.AAC,
    "video/webm": Container.WEBM,
}


def declared(filename: str, content_type: str | None) -> Container:
    """Return what a file is said to be: by its Content-Type, else by its name.

    Only the stored object's name and type come from it. What the file is, is decided by its
    first bytes, once they are there.

    Raises:
        UnsupportedAudioError: nothing that is taken.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    container = _MEDIA_TYPES.get(media_type)
    if container is None:
        container = _ENDINGS.get(filename.rpartition(".")[2].lower())
    if container is None:
        raise UnsupportedAudioError(
            "neither content_type nor the name's ending is one of WAV, FLAC, OGG, MP3, M4A, AAC "
            "or WebM"
        )
    return container
