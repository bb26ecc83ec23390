"""How near a recording's melody is to its reference, as a whole and word by word.

The score of a set of aligned frames is

    score = 100 * agreement * 2 ** -((d / 3) ** 2)

where d is the root mean square difference in semitones of the frames that are voiced on both
sides, each speaker's median taken off, and agreement = 2 b / (2 b + o) with b frames
voiced on both sides and o on one only (Dice's coefficient). A difference of 3 semitones halves
the score: smaller ones hardly change what a listener makes of an accent ('t Hart 1981,
"Differential sensitivity to pitch distance, particularly in speech", JASA 69(3)).
Speaking higher, lower, faster or slower throughout costs nothing.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from speech_analysis_server.alignment import Alignment, align
from speech_analysis_server.pitch import LEAST_VOICED_FRAMES, TIME_STEP_SECONDS, PitchContour
from speech_analysis_server.textgrid import Interval, WordTier
from speech_analysis_server.values import BoolArray, FloatArray, Json, rounded

#: Difference in semitones that halves the score.
HALVING_SEMITONES: Final = 3.0
#: A correlation of fewer frames than these says nothing.
_LEAST_CORRELATED_FRAMES: Final = 3
_CONSTANT_SEMITONES: Final = 1e-6
#: Times the reference's length within which a recording can be the same words, fast or slow.
_USUAL_TEMPO: Final = (0.6, 1.7)

SCORE_FORMULA: Final = (
    "100 * agreement * 2 ** -((distance_semitones / 3) ** 2), agreement = 2 * both_voiced / "
    "(2 * both_voiced + one_voiced)"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a recording is held against; either part may be missing."""

    pitch: PitchContour | None = None
    words: WordTier | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compare with."""
        return self.pitch is None and self.words is None


@dataclass(slots=True)
class Comparison:
    """The comparison, as JSON values and as the alignment for the plot."""

    document: Json
    alignment: Alignment | None = None
    mapped: list[tuple[Interval, float, float]] = field(default_factory=list)


def compare(recording: PitchContour, reference: Reference) -> Comparison | None:
    """Compare a recording with its reference, as far as the reference goes.

    Returns:
        None without a reference; else a comparison whose `notes` say what could not be compared.
    """
    if reference.is_empty:
        return None
    reason = _incomparable(recording, reference.pitch)
    if reason or reference.pitch is None:
        return Comparison(_labels_only(reference.words, reason or ""))
    alignment = align(reference.pitch, recording)
    document: Json = {
        "method": "dtw_semitones",
        "score_formula": SCORE_FORMULA,
        **_measures(alignment, np.ones(len(alignment.reference_index), dtype=np.bool_)),
        "tempo_ratio": rounded(_span(alignment.recording.times) / _span(alignment.reference.times)),
        "intervals": [],
        "notes": [],
    }
    comparison = Comparison(document, alignment)
    if not _USUAL_TEMPO[0] <= document["tempo_ratio"] <= _USUAL_TEMPO[1]:
        document["notes"].append(
            f"The recording has {document['tempo_ratio']} times the reference's length: "
            "something may be missing or added, which the scores do not show"
        )
    if reference.words is None:
        document["notes"].append("The token has no usable TextGrid: compared as a whole only")
        return comparison
    document["tier"] = reference.words.name
    for interval in reference.words.intervals:
        start, end = alignment.map_interval(interval.start, interval.end)
        start, end = max(0.0, start), max(0.0, end)
        comparison.mapped.append((interval, start, end))
        document["intervals"].append(_interval_document(alignment, interval, start, end))
    return comparison


def _incomparable(recording: PitchContour, reference: PitchContour | None) -> str | None:
    if reference is None:
        return "The token has no usable pitch reference: labels and lengths only"
    if reference.voiced_frames < LEAST_VOICED_FRAMES:
        return "The pitch reference has too few voiced frames to compare with"
    if recording.voiced_frames < LEAST_VOICED_FRAMES:
        return "The recording has too little voiced speech to compare"
    return None


def _labels_only(words: WordTier | None, note: str) -> Json:
    return {
        "method": None,
        "score": None,
        "distance_semitones": None,
        "correlation": None,
        "tier": words.name if words else None,
        "intervals": [_reference_part(i) for i in words.intervals] if words else [],
        "notes": [note],
    }


def _reference_part(interval: Interval) -> Json:
    return {
        "label": interval.label,
        "reference_start": rounded(interval.start),
        "reference_end": rounded(interval.end),
        "reference_duration": rounded(interval.duration),
    }


def _interval_document(alignment: Alignment, interval: Interval, start: float, end: float) -> Json:
    times = alignment.reference_times
    inside = (times >= interval.start) & (times < interval.end)
    ratio = (end - start) / interval.duration if interval.duration > 0 else None
    return {
        **_reference_part(interval),
        "start": rounded(start),
        "end": rounded(end),
        "duration": rounded(end - start),
        "duration_ratio": rounded(ratio),
        **_measures(alignment, inside),
    }


def _measures(alignment: Alignment, inside: BoolArray) -> Json:
    """Return distance, correlation and score of some of the aligned pairs."""
    model, spoken = alignment.reference_semitones[inside], alignment.recording_semitones[inside]
    both = np.isfinite(model) & np.isfinite(spoken)
    one = np.isfinite(model) ^ np.isfinite(spoken)
    agreement = _agreement(int(both.sum()), int(one.sum()))
    distance = _rms(spoken[both] - model[both])
    return {
        "score": rounded(score(distance, agreement), 1),
        "distance_semitones": rounded(distance),
        "offset_semitones": rounded(np.mean(spoken[both] - model[both]) if both.any() else None),
        "correlation": rounded(_correlation(model[both], spoken[both])),
        "voicing_agreement": rounded(agreement),
    }


def score(distance: float | None, agreement: float | None) -> float | None:
    """Return the score, 0 to 100, or None where the reference has no pitch to compare.

    Args:
        distance: root mean square difference in semitones; None if nothing is voiced on both sides.
        agreement: Dice's coefficient of the voicing, 0 to 1; None if nothing is voiced at all.
    """
    if agreement is None:
        return None
    if distance is None:
        return 0.0
    return float(100.0 * agreement * 2.0 ** -((distance / HALVING_SEMITONES) ** 2))


def _agreement(both: int, one: int) -> float | None:
    return 2 * both / (2 * both + one) if both or one else None


def _rms(difference: FloatArray) -> float | None:
    return float(np.sqrt(np.mean(difference**2))) if difference.size else None


def _correlation(one: FloatArray, other: FloatArray) -> float | None:
    if one.size < _LEAST_CORRELATED_FRAMES:
        return None
    if min(np.ptp(one), np.ptp(other)) < _CONSTANT_SEMITONES:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _span(times: FloatArray) -> float:
    return max(float(times[-1] - times[0]), TIME_STEP_SECONDS)
