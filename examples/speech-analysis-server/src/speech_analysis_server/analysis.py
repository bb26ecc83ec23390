"""From a recording and its reference to the result: no network, no settings, no state."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speech_analysis_server.audio import Recording, decode
from speech_analysis_server.comparison import Comparison, Reference, compare
from speech_analysis_server.intensity import (
    IntensityContour,
    extract_intensity,
    intensity_statistics,
    speaking_rate,
)
from speech_analysis_server.pitch import PitchContour, extract_pitch, pitch_statistics
from speech_analysis_server.plot import draw, draw_plain
from speech_analysis_server.reference_pitch import BadPitchFileError, contour_json, read_pitch
from speech_analysis_server.textgrid import BadTextGridError, read_word_tier
from speech_analysis_server.values import Json, Warnings, rounded, rounded_list

SCHEMA_VERSION: Final = 1
#: Speech is voiced for about half of the time; below this part there hardly is any.
_LITTLE_VOICING: Final = 0.1


@dataclass(frozen=True, slots=True)
class AnalysisInput:
    """What one analysis works on.

    Attributes:
        title: heading of the plot.
        audio: the recording.
        textgrid: the token's TextGrid, if it has one.
        pitch: the token's pitch file, if it has one.
        max_seconds: longest recording that is taken.
        warnings: what was found amiss while fetching these.
        plain_plot: draw the curves only.
    """

    title: str
    audio: Path
    textgrid: Path | None
    pitch: Path | None
    max_seconds: float
    warnings: tuple[tuple[str, str], ...] = ()
    plain_plot: bool = False


@dataclass(frozen=True, slots=True)
class AnalysisOutput:
    """What one analysis gives.

    Attributes:
        summary: what the report carries.
        contours: the arrays, which only `analysis.json` carries.
        plot: PNG.
    """

    summary: Json
    contours: Json
    plot: bytes


def analyse(work: AnalysisInput) -> AnalysisOutput:
    """Analyse one recording.

    Raises:
        AnalysisError: final; the recording cannot be analysed at all.
    """
    warnings = Warnings([{"code": code, "message": text} for code, text in work.warnings])
    recording = decode(work.audio, max_seconds=work.max_seconds, warnings=warnings)
    intensity = extract_intensity(recording)
    pitch = _pitch(recording, intensity, warnings)
    rate = speaking_rate(intensity, pitch)
    comparison = compare(pitch, _reference(work, warnings))
    summary = {
        "schema_version": SCHEMA_VERSION,
        "duration_seconds": rounded(recording.duration),
        "audio": {
            "codec": recording.codec,
            "sample_rate_hz": recording.source_rate,
            "channels": recording.channels,
        },
        "pitch": pitch_statistics(pitch),
        "intensity": intensity_statistics(intensity),
        "speaking_rate": rate.summary(),
        "comparison": comparison.document if comparison else None,
        "warnings": warnings.items,
    }
    if work.plain_plot:
        plot = draw_plain(pitch, intensity)
    else:
        plot = draw(
            title=work.title,
            duration=recording.duration,
            pitch=pitch,
            intensity=intensity,
            rate=rate,
            comparison=comparison,
        )
    return AnalysisOutput(summary, _contours(pitch, intensity, comparison), plot)


def _pitch(recording: Recording, intensity: IntensityContour, warnings: Warnings) -> PitchContour:
    contour = extract_pitch(recording)
    if intensity.is_silent:
        warnings.add("audio_silent", "The recording is silent")
        contour.frequencies[:] = float("nan")
    elif pitch_statistics(contour) is None:
        warnings.add("no_voiced_speech", "No voiced speech was found in the recording")
    elif contour.voiced.mean() < _LITTLE_VOICING:
        warnings.add("little_voiced_speech", "Hardly any voiced speech was found in the recording")
    return contour


def _reference(work: AnalysisInput, warnings: Warnings) -> Reference:
    """Read the reference; what is broken is a warning, not a failure of the job."""
    words = pitch = None
    if work.textgrid:
        try:
            words = read_word_tier(work.textgrid)
        except BadTextGridError as error:
            warnings.add("textgrid_unreadable", str(error))
    if work.pitch:
        try:
            pitch = read_pitch(work.pitch.read_bytes())
        except BadPitchFileError as error:
            warnings.add("pitch_reference_unreadable", str(error))
    return Reference(pitch, words)


def _contours(
    pitch: PitchContour, intensity: IntensityContour, comparison: Comparison | None
) -> Json:
    contours: Json = {
        "pitch": contour_json(pitch),
        "intensity": {
            "unit": "dB",
            "times": rounded_list(intensity.times, 4),
            "decibels": rounded_list(intensity.decibels, 2),
        },
    }
    if comparison and comparison.alignment is not None:
        path = comparison.alignment
        contours["alignment"] = {
            "reference_times": rounded_list(path.reference_times, 4),
            "recording_times": rounded_list(path.recording_times, 4),
            "reference_semitones": rounded_list(path.reference_semitones),
            "recording_semitones": rounded_list(path.recording_semitones),
        }
    return contours
