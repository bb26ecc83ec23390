"""Loudness over time, pauses, and speaking rate from the peaks of intensity.

Syllable nuclei after De Jong & Wempe (2009), "Praat script to detect syllable nuclei and measure
speech rate automatically", Behavior Research Methods 41(2): voiced peaks of intensity that stand
at least 2 dB above the dips beside them and less than 25 dB below the loudest part.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import parselmouth

from speech_analysis_server.audio import Recording
from speech_analysis_server.pitch import TIME_STEP_SECONDS, PitchContour, runs
from speech_analysis_server.values import BoolArray, FloatArray, IntArray, Json, rounded

#: The paper's settings: dB below the loudest part that still count as speech, least dip beside a
#: nucleus in dB, shortest pause and shortest speech between pauses in seconds.
_SPEECH_DEPTH_DB: Final = 25.0
_DIP_DB: Final = 2.0
_SHORTEST_PAUSE_SECONDS: Final = 0.3
_SHORTEST_SPEECH_SECONDS: Final = 0.1
#: The paper smooths over 6.4 / 50 s = 128 ms; what is shorter than that can only be smoothed less.
_SMOOTH_PITCH_HZ: Final = 50.0
_SHORT_PITCH_HZ: Final = 100.0
_SMOOTH_LEAST_SECONDS: Final = 6.4 / _SMOOTH_PITCH_HZ
#: Praat gives -300 dB for digital silence; 0 dB is 2e-5 of full scale, below 16-bit noise.
_FLOOR_DB: Final = 0.0
#: No sound: 60 dB below full scale (94 dB), where speech recorded in earnest never stays.
_SILENT_BELOW_DB: Final = 34.0


@dataclass(frozen=True, slots=True)
class IntensityContour:
    """Intensity over time in dB relative to 2e-5 of full scale (uncalibrated, full scale 94 dB)."""

    times: FloatArray
    decibels: FloatArray

    @property
    def is_silent(self) -> bool:
        """Whether nothing is loud enough to be anything."""
        return bool(self.decibels.max(initial=_FLOOR_DB) < _SILENT_BELOW_DB)

    @property
    def threshold(self) -> float:
        """Decibels above which there is speech."""
        loudest = float(np.quantile(self.decibels, 0.99))
        return max(loudest - _SPEECH_DEPTH_DB, float(self.decibels.min()))


@dataclass(frozen=True, slots=True)
class SpeakingRate:
    """How fast was spoken.

    Attributes:
        nuclei: times of the syllable nuclei, seconds.
        pauses: start and end of each silent pause within the speech, seconds.
        speech: first and last moment of speech, seconds; None in silence.
    """

    nuclei: FloatArray
    pauses: list[tuple[float, float]]
    speech: tuple[float, float] | None

    @property
    def speech_seconds(self) -> float:
        """From the first sound to the last, pauses included."""
        return self.speech[1] - self.speech[0] if self.speech else 0.0

    @property
    def pause_seconds(self) -> float:
        """Length of all pauses together."""
        return sum(end - start for start, end in self.pauses)

    def summary(self) -> Json:
        """Return the rates; `articulation_rate` leaves the pauses out."""
        sounding = self.speech_seconds - self.pause_seconds
        count = len(self.nuclei)
        return {
            "syllables": count,
            "syllables_per_second": rounded(
                count / self.speech_seconds if self.speech_seconds else None
            ),
            "articulation_rate": rounded(count / sounding if sounding > 0 else None),
            "speech_seconds": rounded(self.speech_seconds),
            "pause_seconds": rounded(self.pause_seconds),
            "pauses": [{"start": rounded(s), "end": rounded(e)} for s, e in self.pauses],
        }


def extract_intensity(recording: Recording) -> IntensityContour:
    """Find the intensity contour of a recording."""
    # The window is one sample longer than its nominal length after rounding: leave a margin.
    long_enough = recording.duration > _SMOOTH_LEAST_SECONDS + 2 * TIME_STEP_SECONDS
    intensity = parselmouth.Sound(recording.samples, recording.rate).to_intensity(
        minimum_pitch=_SMOOTH_PITCH_HZ if long_enough else _SHORT_PITCH_HZ,
        time_step=TIME_STEP_SECONDS,
        subtract_mean=True,
    )
    decibels = np.maximum(np.nan_to_num(intensity.values[0], nan=_FLOOR_DB), _FLOOR_DB)
    return IntensityContour(np.array(intensity.xs()), decibels)


def intensity_statistics(contour: IntensityContour) -> Json:
    """Return the summary; the mean is of the energy, over what counts as speech."""
    speech = contour.decibels[contour.decibels >= contour.threshold]
    return {
        "mean_db": rounded(10 * np.log10(np.mean(10 ** (speech / 10))), 2),
        "max_db": rounded(contour.decibels.max(), 2),
        "min_db": rounded(contour.decibels.min(), 2),
        "sd_db": rounded(speech.std(), 2),
        "reference": "2e-5 of full scale (full scale is 94 dB); not calibrated",
    }


def speaking_rate(intensity: IntensityContour, pitch: PitchContour) -> SpeakingRate:
    """Count the syllables and the pauses."""
    if intensity.is_silent:
        return SpeakingRate(np.zeros(0), [], None)
    stretches = _speech_stretches(intensity)
    if not stretches:
        return SpeakingRate(np.zeros(0), [], None)
    pauses = [(before[1], after[0]) for before, after in pairwise(stretches)]
    peaks = _nuclei(intensity.decibels, intensity.threshold)
    times = intensity.times[peaks]
    return SpeakingRate(
        times[_voiced_at(pitch, times)], pauses, (stretches[0][0], stretches[-1][1])
    )


def _speech_stretches(intensity: IntensityContour) -> list[tuple[float, float]]:
    """Return stretches of speech, with gaps shorter than a pause closed."""
    loud = runs(intensity.decibels >= intensity.threshold)
    half = TIME_STEP_SECONDS / 2
    times = intensity.times
    spans = [(times[start] - half, times[end - 1] + half) for start, end in loud]
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start - merged[-1][1] < _SHORTEST_PAUSE_SECONDS:
            merged[-1] = (merged[-1][0], float(end))
        else:
            merged.append((float(start), float(end)))
    kept = [span for span in merged if span[1] - span[0] >= _SHORTEST_SPEECH_SECONDS]
    return kept or merged[:1]


def _nuclei(decibels: FloatArray, threshold: float) -> IntArray:
    """Return the peaks above `threshold` that a dip of 2 dB separates from the next."""
    inner = decibels[1:-1]
    peaks = 1 + np.flatnonzero(
        (inner > decibels[:-2]) & (inner >= decibels[2:]) & (inner > threshold)
    )
    kept: list[int] = []
    for position, peak in enumerate(peaks):
        following = peaks[position + 1] if position + 1 < len(peaks) else len(decibels) - 1
        dip = decibels[peak : following + 1].min()
        if decibels[peak] - dip > _DIP_DB:
            kept.append(int(peak))
    return np.array(kept, dtype=np.int64)


def _voiced_at(pitch: PitchContour, times: FloatArray) -> BoolArray:
    if not len(pitch.times):
        return np.zeros(len(times), dtype=np.bool_)
    # Frames are evenly spaced: the nearest is half a step beyond the last one before.
    after = np.searchsorted(pitch.times + TIME_STEP_SECONDS / 2, times)
    nearest = np.minimum(after, len(pitch.times) - 1)
    voiced: BoolArray = pitch.voiced[nearest]
    return voiced
