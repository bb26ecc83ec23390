"""The reference pitch file: reading every form in use, writing ours.

The format of our own, which `python -m speech_analysis_server.reference` writes:

    {"format": "headrace.pitch", "version": 1, "unit": "Hz", "time_step": 0.01,
     "duration_seconds": 1.87, "floor_hz": 75.0, "ceiling_hz": 160.0,
     "times": [0.02, 0.03, ...], "frequencies": [null, 121.4, ...]}

`times` are seconds, ascending; `frequencies` are Hz, null (or 0) where unvoiced, as many as times.
Only these two are read, so that `{"times", "frequencies"}` of other tools is taken too, as are a
list of `[time, frequency]` pairs and `{"pitch": [{"time", "frequency"}, ...]}`.
"""

import json
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from speech_analysis_server.pitch import TIME_STEP_SECONDS, PitchContour
from speech_analysis_server.values import Json, rounded, rounded_list

FORMAT: Final = "headrace.pitch"
VERSION: Final = 1
#: Half an hour at a frame every 10 ms.
_MOST_POINTS: Final = 180_000
#: Nobody's speech is outside.
_LOWEST_HZ: Final = 20.0
_HIGHEST_HZ: Final = 2_000.0


class BadPitchFileError(Exception):
    """The file is not a pitch contour."""


class _Strict(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Arrays(_Strict):
    times: list[float] = Field(max_length=_MOST_POINTS)
    frequencies: list[float | None] = Field(max_length=_MOST_POINTS)


class _Point(_Strict):
    time: float
    frequency: float | None


class _Points(_Strict):
    pitch: list[_Point] = Field(max_length=_MOST_POINTS)


_Pairs = list[tuple[float, float | None]]
_FORMS: Final[TypeAdapter[_Arrays | _Points | _Pairs]] = TypeAdapter(_Arrays | _Points | _Pairs)


def read_pitch(data: bytes) -> PitchContour:
    """Read a reference pitch file.

    Raises:
        BadPitchFileError: with a readable reason.
    """
    try:
        form = _FORMS.validate_python(json.loads(data))
    except (ValueError, RecursionError) as error:
        reason = "not in a known form" if isinstance(error, ValidationError) else "not JSON"
        raise BadPitchFileError(f"The pitch file is {reason}") from error
    times, frequencies = _columns(form)
    return _contour(times, frequencies)


def _columns(form: _Arrays | _Points | _Pairs) -> tuple[list[float], list[float | None]]:
    if isinstance(form, _Arrays):
        return form.times, form.frequencies
    pairs = [(p.time, p.frequency) for p in form.pitch] if isinstance(form, _Points) else form
    return [time for time, _ in pairs], [frequency for _, frequency in pairs]


def _contour(times: list[float], frequencies: list[float | None]) -> PitchContour:
    if len(times) != len(frequencies):
        raise BadPitchFileError("The pitch file has not as many frequencies as times")
    if len(times) > _MOST_POINTS:
        raise BadPitchFileError(f"The pitch file has more than {_MOST_POINTS} points")
    when = np.array(times, dtype=np.float64)
    pitch = np.array([f or np.nan for f in frequencies], dtype=np.float64)
    pitch[pitch <= 0] = np.nan
    if not np.isfinite(when).all() or (np.diff(when) <= 0).any() or (when < 0).any():
        raise BadPitchFileError("The times of the pitch file are not ascending from 0")
    voiced = pitch[np.isfinite(pitch)]
    if not voiced.size:
        raise BadPitchFileError("The pitch file has no voiced frame")
    if voiced.min() < _LOWEST_HZ or voiced.max() > _HIGHEST_HZ:
        raise BadPitchFileError(
            f"The pitch file has frequencies outside {_LOWEST_HZ:g} to {_HIGHEST_HZ:g} Hz"
        )
    return PitchContour(when, pitch, float(voiced.min()), float(voiced.max()))


def write_pitch(contour: PitchContour, *, duration: float) -> Json:
    """Return the document of a contour, in the format above."""
    return contour_json(contour) | {
        "format": FORMAT,
        "version": VERSION,
        "time_step": TIME_STEP_SECONDS,
        "duration_seconds": rounded(duration),
        "floor_hz": rounded(contour.floor, 1),
        "ceiling_hz": rounded(contour.ceiling, 1),
    }


def contour_json(contour: PitchContour) -> dict[str, Any]:
    """Return a contour's arrays."""
    return {
        "unit": "Hz",
        "times": rounded_list(contour.times, 4),
        "frequencies": rounded_list(contour.frequencies, 2),
    }
