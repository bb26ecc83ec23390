"""A short piece of real speech."""

import io
import wave
from functools import cache
from pathlib import Path
from typing import Final

_SPEECH: Final = Path(__file__).parents[3] / "examples" / "recordings" / "mary.wav"
_SECONDS: Final = 0.3


@cache
def short_recording() -> bytes:
    """Return it as a WAV file."""
    with wave.open(str(_SPEECH), "rb") as file:
        parameters, rate = file.getparams(), file.getframerate()
        file.setpos(rate // 2)
        frames = file.readframes(int(_SECONDS * rate))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams(parameters)
        file.writeframes(frames)
    return buffer.getvalue()
