"""Short pieces of real speech, each with bytes and a length of its own.

That no two are equal lets the checker tell whose recording, and whose result, it has before it.
"""

import hashlib
import io
import random
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

RECORDINGS: Final = Path(__file__).parents[3] / "examples" / "recordings"
VOICES: Final = ("bobby", "mary")
_LEAST_SECONDS: Final = 0.3
_MOST_SECONDS: Final = 0.8
#: The reference analysis server wants 75 ms, the ingest API takes any length.
_TOO_SHORT_SECONDS: Final = (0.02, 0.07)


@dataclass(frozen=True)
class Cut:
    """A piece of a recording.

    Attributes:
        voice: which recording.
        start: first frame.
        frames: how many.
        rate: frames a second.
    """

    voice: str
    start: int
    frames: int
    rate: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.rate

    def wav(self) -> bytes:
        """Return it as a WAV file."""
        parameters, samples = _samples(self.voice)
        width = parameters.sampwidth * parameters.nchannels
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setparams(parameters)
            file.writeframes(samples[self.start * width : (self.start + self.frames) * width])
        return buffer.getvalue()


def cut(chance: random.Random, *, too_short: bool = False) -> Cut:
    """Choose a piece; one that is too short is taken in, and cannot be analysed."""
    voice = chance.choice(VOICES)
    parameters, _ = _samples(voice)
    least, most = _TOO_SHORT_SECONDS if too_short else (_LEAST_SECONDS, _MOST_SECONDS)
    rate = parameters.framerate
    frames = chance.randint(int(least * rate), int(most * rate))
    return Cut(voice, chance.randrange(parameters.nframes - frames), frames, rate)


def sha256_of(data: bytes) -> str:
    """Return its SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def md5_of(data: bytes) -> str:
    """Return what S3 makes the ETag of; it guards nothing."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@cache
def _samples(voice: str) -> "tuple[wave._wave_params, bytes]":
    with wave.open(str(RECORDINGS / f"{voice}.wav"), "rb") as file:
        return file.getparams(), file.readframes(file.getnframes())
