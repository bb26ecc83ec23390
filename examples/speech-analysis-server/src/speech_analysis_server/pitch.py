"""Fundamental frequency: the contour by Praat's autocorrelation, and its statistics.

The search range is fitted to the speaker in two passes after De Looze & Hirst (2008),
"Detecting changes in key and range for the automatic modelling and coding of intonation",
Speech Prosody 2008: a wide first pass, then floor = 0.75 * first quartile and ceiling =
1.5 * third quartile. That leaves octave jumps no room in most voices.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import parselmouth

from speech_analysis_server.audio import Recording
from speech_analysis_server.values import BoolArray, FloatArray, Json, rounded

TIME_STEP_SECONDS: Final = 0.01
#: The wide range of the first pass, Hz: from a low creaky voice to a child's.
_WIDE_FLOOR_HZ: Final = 60.0
_WIDE_CEILING_HZ: Final = 700.0
_FLOOR_FACTOR: Final = 0.75
_CEILING_FACTOR: Final = 1.5
#: Shorter voiced stretches are chance periodicity of noise: no vowel lasts less than 30 ms.
_SHORTEST_RUN_FRAMES: Final = 3
#: Fewer voiced frames (50 ms) give no statistics worth the name.
LEAST_VOICED_FRAMES: Final = 5
#: Semitones are counted from 100 Hz, as in Praat.
_SEMITONE_BASE_HZ: Final = 100.0


@dataclass(frozen=True, slots=True)
class PitchContour:
    """Pitch over time.

    Attributes:
        times: seconds, ascending.
        frequencies: Hz, NaN where unvoiced.
        floor: lowest frequency looked for, Hz.
        ceiling: highest frequency looked for, Hz.
    """

    times: FloatArray
    frequencies: FloatArray
    floor: float = _WIDE_FLOOR_HZ
    ceiling: float = _WIDE_CEILING_HZ

    @property
    def voiced(self) -> BoolArray:
        """Which frames have a pitch."""
        return np.isfinite(self.frequencies)

    @property
    def voiced_frames(self) -> int:
        """How many frames have a pitch."""
        return int(np.count_nonzero(self.voiced))


def hz_to_semitones(frequencies: FloatArray, base: float = _SEMITONE_BASE_HZ) -> FloatArray:
    """Return semitones above `base` Hz; NaN stays NaN."""
    return 12.0 * np.log2(frequencies / base)


def extract_pitch(recording: Recording) -> PitchContour:
    """Find the pitch contour of a recording."""
    sound = parselmouth.Sound(recording.samples, recording.rate)
    wide = _track(sound, _WIDE_FLOOR_HZ, _WIDE_CEILING_HZ)
    if wide.voiced_frames < LEAST_VOICED_FRAMES:
        return wide
    first, third = np.quantile(wide.frequencies[wide.voiced], [0.25, 0.75])
    floor = max(_WIDE_FLOOR_HZ, _FLOOR_FACTOR * float(first))
    ceiling = min(_WIDE_CEILING_HZ, _CEILING_FACTOR * float(third))
    return _track(sound, floor, ceiling)


def _track(sound: parselmouth.Sound, floor: float, ceiling: float) -> PitchContour:
    pitch = sound.to_pitch_ac(time_step=TIME_STEP_SECONDS, pitch_floor=floor, pitch_ceiling=ceiling)
    frequencies = np.array(pitch.selected_array["frequency"], dtype=np.float64)
    frequencies[frequencies <= 0] = np.nan
    frequencies[_short_runs(np.isfinite(frequencies))] = np.nan
    return PitchContour(np.array(pitch.xs()), frequencies, floor, ceiling)


def runs(mask: BoolArray) -> list[tuple[int, int]]:
    """Return the stretches of True as (first, one past the last) indices."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _short_runs(voiced: BoolArray) -> BoolArray:
    short = np.zeros_like(voiced)
    for start, end in runs(voiced):
        short[start:end] = end - start < _SHORTEST_RUN_FRAMES
    return short


def pitch_statistics(contour: PitchContour) -> Json | None:
    """Return the summary of a contour, or None where too little of it is voiced.

    Hz: median, mean, standard deviation, extremes. Semitones (from 100 Hz): the same, the range
    between the 5th and the 95th percentile (extremes are often tracking errors), and the slope of
    the straight line through the contour in semitones per second (declination is negative).
    """
    if contour.voiced_frames < LEAST_VOICED_FRAMES:
        return None
    hertz = contour.frequencies[contour.voiced]
    semitones = hz_to_semitones(hertz)
    low, high = np.quantile(semitones, [0.05, 0.95])
    slope = np.polynomial.polynomial.polyfit(contour.times[contour.voiced], semitones, 1)[1]
    return {
        "median_hz": rounded(np.median(hertz), 2),
        "mean_hz": rounded(hertz.mean(), 2),
        "sd_hz": rounded(hertz.std(), 2),
        "min_hz": rounded(hertz.min(), 2),
        "max_hz": rounded(hertz.max(), 2),
        "median_semitones": rounded(np.median(semitones)),
        "mean_semitones": rounded(semitones.mean()),
        "sd_semitones": rounded(semitones.std()),
        "range_semitones": rounded(high - low),
        "slope_semitones_per_second": rounded(slope),
        "voiced_fraction": rounded(contour.voiced.mean()),
        "floor_hz": rounded(contour.floor, 1),
        "ceiling_hz": rounded(contour.ceiling, 1),
        "semitone_base_hz": _SEMITONE_BASE_HZ,
    }
