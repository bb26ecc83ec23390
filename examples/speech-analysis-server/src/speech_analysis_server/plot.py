"""The picture: the pitch of the recording and of its reference, the words, and the intensity.

Uses matplotlib's object-oriented interface only; pyplot keeps global state.
"""

import io
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from speech_analysis_server.alignment import Alignment
from speech_analysis_server.comparison import Comparison
from speech_analysis_server.intensity import IntensityContour, SpeakingRate
from speech_analysis_server.pitch import PitchContour
from speech_analysis_server.values import FloatArray

_INK: Final = "#1f2933"
_MUTED: Final = "#7b8794"
_GRID: Final = "#e4e7eb"
_SPOKEN: Final = "#1769aa"
_MODEL: Final = "#e07a1f"
_LOUDNESS: Final = "#52796f"
#: Background of a word by its score, from the best down.
_BANDS: Final = ((80.0, "#d8f0dd"), (50.0, "#fdf1cf"), (0.0, "#fbdcd6"))
_NO_SCORE: Final = "#eef1f4"
_DPI: Final = 130
_PLAIN_DPI: Final = 50
#: Narrower words than this part of the picture have no room for a second line.
_ROOM_FOR_SCORE: Final = 0.035


def draw(
    *,
    title: str,
    duration: float,
    pitch: PitchContour,
    intensity: IntensityContour,
    rate: SpeakingRate,
    comparison: Comparison | None,
) -> bytes:
    """Return the plot as PNG.

    With a comparison the reference is drawn warped onto the recording's time, both relative to
    their speakers' medians; without one the recording's pitch is drawn in Hz.
    """
    figure = Figure(figsize=(11, 6), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    alignment = comparison.alignment if comparison else None
    if alignment is None:
        _draw_hertz(upper, pitch)
    else:
        _draw_both(upper, alignment)
    if comparison:
        _draw_words(upper, comparison, duration)
    _draw_intensity(lower, intensity, rate)
    for axes in (upper, lower):
        _tidy(axes)
    lower.set_xlim(0, duration)
    lower.set_xlabel("time in the recording (s)", color=_INK)
    # A dollar sign would start a formula.
    figure.suptitle(
        title.replace("$", r"\$"), x=0.01, ha="left", fontsize=13, color=_INK, weight="bold"
    )
    upper.set_title(_headline(comparison, pitch), loc="left", fontsize=10, color=_MUTED, pad=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_plain(pitch: PitchContour, intensity: IntensityContour) -> bytes:
    """Return the two curves as PNG, and nothing beside them."""
    figure = Figure(figsize=(4, 2), dpi=_PLAIN_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for row, times, values, colour in (
        (1, pitch.times, pitch.frequencies, _SPOKEN),
        (2, intensity.times, intensity.decibels, _LOUDNESS),
    ):
        axes = figure.add_subplot(2, 1, row)
        axes.set_axis_off()
        axes.plot(times, values, color=colour)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _headline(comparison: Comparison | None, pitch: PitchContour) -> str:
    if comparison and comparison.alignment is not None:
        document = comparison.document
        correlation = document["correlation"]
        return (
            f"score {document['score']:.0f} of 100"
            f"   ·   distance {document['distance_semitones'] or 0:.1f} semitones"
            + (f"   ·   correlation {correlation:.2f}" if correlation is not None else "")
            + f"   ·   {document['tempo_ratio']:.2f} times the reference's length"
        )
    if not pitch.voiced_frames:
        return "no voiced speech found"
    return f"median pitch {np.nanmedian(pitch.frequencies):.0f} Hz"


def _draw_hertz(axes: Axes, pitch: PitchContour) -> None:
    axes.set_ylabel("pitch (Hz)", color=_INK)
    if not pitch.voiced_frames:
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no pitch", transform=axes.transAxes, ha="center", va="center", color=_MUTED
        )
        return
    _line(axes, pitch.times, pitch.frequencies, _SPOKEN, "recording")
    low, high = np.nanmin(pitch.frequencies), np.nanmax(pitch.frequencies)
    axes.set_ylim(low * 0.85, high * 1.2)
    _legend(axes)


def _draw_both(axes: Axes, alignment: Alignment) -> None:
    spoken = alignment.recording
    model = alignment.reference_on_recording
    # Broader and below, so that it shows where the recording lies right on it.
    _line(axes, spoken.times, model, _MODEL, "reference, aligned in time", width=5.5)
    _line(axes, spoken.times, spoken.semitones, _SPOKEN, "recording")
    values = np.concatenate((spoken.semitones, model))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(high - low, 4.0)
    axes.set_ylim(low - 0.10 * room, high + 0.34 * room)
    axes.axhline(0, color=_MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.yaxis.set_major_locator(MultipleLocator(max(1, round(room / 8))))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+.0f}" if value else "0")
    )
    axes.set_ylabel("semitones from the speaker's median", color=_INK)
    _legend(axes)


def _line(
    axes: Axes, times: FloatArray, values: FloatArray, color: str, label: str, *, width: float = 2.4
) -> None:
    axes.plot(times, values, color=color, linewidth=width, solid_capstyle="round", label=label)


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=9,
        labelcolor=_INK, borderaxespad=0.2,
    )  # fmt: skip


def _draw_words(axes: Axes, comparison: Comparison, duration: float) -> None:
    scores = [interval.get("score") for interval in comparison.document["intervals"]]
    for (interval, from_time, to_time), value in zip(comparison.mapped, scores, strict=False):
        start, end = np.clip([from_time, to_time], 0, duration)
        if end <= start:
            continue
        axes.axvspan(start, end, color=_band(value), zorder=0, linewidth=0)
        axes.axvline(start, color="white", linewidth=2, zorder=1)
        _label(
            axes,
            interval.label,
            value,
            (start + end) / 2,
            narrow=(end - start) < _ROOM_FOR_SCORE * duration,
        )


def _label(axes: Axes, label: str, value: float | None, x: float, *, narrow: bool) -> None:
    across = axes.get_xaxis_transform()
    axes.text(
        x, 0.965, label.replace("$", r"\$"), transform=across, ha="center", va="top", color=_INK,
        fontsize=11, weight="bold", rotation=90 if narrow else 0, clip_on=True, zorder=5,
    )  # fmt: skip
    if value is not None and not narrow:
        axes.text(
            x, 0.90, f"{value:.0f}", transform=across, ha="center", va="top", color=_MUTED,
            fontsize=9.5, clip_on=True, zorder=5,
        )  # fmt: skip


def _band(value: float | None) -> str:
    if value is None:
        return _NO_SCORE
    return next(color for least, color in _BANDS if value >= least)


def _draw_intensity(axes: Axes, intensity: IntensityContour, rate: SpeakingRate) -> None:
    decibels = intensity.decibels
    low = max(float(decibels.min()) - 3, 0.0)
    axes.fill_between(intensity.times, low, decibels, color=_LOUDNESS, alpha=0.18, linewidth=0)
    axes.plot(intensity.times, decibels, color=_LOUDNESS, linewidth=1.5)
    if len(rate.nuclei):
        heights = np.interp(rate.nuclei, intensity.times, decibels)
        axes.plot(
            rate.nuclei, heights, "o", color=_LOUDNESS, markersize=5, label="syllable nucleus"
        )
        axes.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=_INK)
    for start, end in rate.pauses:
        axes.axvspan(start, end, color=_GRID, zorder=0, linewidth=0)
    axes.set_ylim(low, max(float(decibels.max()) + 5, low + 10))
    axes.set_ylabel("intensity (dB)", color=_INK)


def _tidy(axes: Axes) -> None:
    axes.grid(visible=True, axis="y", color=_GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_MUTED, labelsize=9, length=0)
