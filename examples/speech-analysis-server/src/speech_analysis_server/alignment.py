"""Laying one pitch contour over another by dynamic time warping.

After Sakoe & Chiba (1978), "Dynamic programming algorithm optimization for spoken word
recognition", IEEE Trans. ASSP 26(1): monotonic, continuous, within a band round the diagonal.
Frames are compared by pitch relative to the speaker's median, in semitones, and by voicing: a
voiced frame against an unvoiced one costs a fixed amount, so that pauses and voiceless sounds
are landmarks too.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from speech_analysis_server.pitch import TIME_STEP_SECONDS, PitchContour, hz_to_semitones
from speech_analysis_server.values import FloatArray, IntArray

#: Widest departure from the diagonal, as a part of the whole.
BAND_FRACTION: Final = 0.2
#: Cost in semitones of voiced against unvoiced: a pitch difference that any listener hears.
VOICING_COST: Final = 3.0
#: One tracking error must not bend the path: differences count up to one octave.
_MOST_COST: Final = 12.0
#: Cost in semitones of a step along one contour alone. It keeps level stretches straight and stops
#: wrong melodies from being warped until they fit; pauses may be of any length.
_STEP_COST: Final = 1.0
_PAUSE_STEP_COST: Final = 0.1
#: The matrix has at most this many frames a side: 4 million cells, 40 MB.
_MOST_FRAMES: Final = 2_000
#: Points of a reference up to this far apart belong to one voiced stretch, seconds.
_LONGEST_STEP: Final = 0.05


@dataclass(frozen=True, slots=True)
class Track:
    """A contour on an even grid, from its first voiced frame to its last.

    Attributes:
        times: seconds, evenly spaced; at least two.
        semitones: relative to the speaker's median, NaN where unvoiced.
    """

    times: FloatArray
    semitones: FloatArray


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which frame of the recording goes with which of the reference, along the path."""

    reference: Track
    recording: Track
    reference_index: IntArray
    recording_index: IntArray

    @property
    def reference_times(self) -> FloatArray:
        """Time in the reference of each pair, seconds."""
        return self.reference.times[self.reference_index]

    @property
    def recording_times(self) -> FloatArray:
        """Time in the recording of each pair, seconds."""
        return self.recording.times[self.recording_index]

    @property
    def reference_semitones(self) -> FloatArray:
        """Pitch of the reference in each pair."""
        return self.reference.semitones[self.reference_index]

    @property
    def recording_semitones(self) -> FloatArray:
        """Pitch of the recording in each pair."""
        return self.recording.semitones[self.recording_index]

    @property
    def reference_on_recording(self) -> FloatArray:
        """The reference's pitch at each frame of the recording, NaN where it is unvoiced.

        Where several of its frames go with one of the recording, their mean.
        """
        voiced = np.isfinite(self.reference_semitones)
        index, length = self.recording_index[voiced], len(self.recording.times)
        sums = np.bincount(index, self.reference_semitones[voiced], minlength=length)
        counts = np.bincount(index, minlength=length)
        means: FloatArray = np.divide(sums, counts, out=np.full(length, np.nan), where=counts > 0)
        return means

    def map_interval(self, start: float, end: float) -> tuple[float, float]:
        """Return the stretch of the recording that goes with one of the reference, seconds."""
        inside = (self.reference_times >= start) & (self.reference_times < end)
        if not inside.any():
            return self.map_time(start), self.map_time(end)
        spoken = self.recording_times[inside]
        first, last = self.reference.times[0], self.reference.times[-1]
        step = self.recording.times[1] - self.recording.times[0]
        return (
            self.map_time(start) if start < first else float(spoken[0]),
            self.map_time(end) if end > last else float(spoken[-1] + step),
        )

    def map_time(self, reference_time: float) -> float:
        """Return the moment of the recording that goes with one of the reference.

        Before the first voiced frame and after the last, the time runs on at the same pace.
        """
        first, last = self.reference.times[0], self.reference.times[-1]
        if reference_time < first:
            return float(self.recording.times[0] - (first - reference_time))
        if reference_time > last:
            return float(self.recording.times[-1] + (reference_time - last))
        moments, inverse = np.unique(self.reference_times, return_inverse=True)
        sums = np.bincount(inverse, weights=self.recording_times)
        return float(np.interp(reference_time, moments, sums / np.bincount(inverse)))


def prepare(contour: PitchContour, frames: int) -> Track:
    """Put a contour with a voiced frame on an even grid of so many frames, from its median."""
    voiced = np.flatnonzero(contour.voiced)
    times = contour.times[voiced[0] : voiced[-1] + 1]
    semitones = hz_to_semitones(contour.frequencies[voiced[0] : voiced[-1] + 1])
    grid = np.linspace(times[0], times[-1], frames)
    return Track(grid, _resample(grid, times, semitones - np.nanmedian(semitones)))


def _voiced_span(contour: PitchContour) -> float:
    times = contour.times[contour.voiced]
    return float(times[-1] - times[0])


def _resample(grid: FloatArray, times: FloatArray, values: FloatArray) -> FloatArray:
    """Interpolate between neighbours that are both voiced and close; else unvoiced."""
    after = np.clip(np.searchsorted(times, grid, side="left"), 0, len(times) - 1)
    exact = np.isclose(times[after], grid, atol=1e-6)
    before = np.where(exact, after, np.maximum(after - 1, 0))
    gap = times[after] - times[before]
    share = np.divide(grid - times[before], gap, out=np.zeros_like(grid), where=gap > 0)
    mixed = values[before] * (1 - share) + values[after] * share
    mixed = np.where(share == 0, values[before], mixed)
    mixed[gap > _LONGEST_STEP] = np.nan
    return mixed


def align(reference: PitchContour, recording: PitchContour) -> Alignment:
    """Align a recording with its reference; both need at least one voiced frame.

    Both are first brought to the same number of frames, so that the diagonal is the same
    speech at another pace and only changes of pace within it are warping.
    """
    longer = max(_voiced_span(reference), _voiced_span(recording))
    frames = max(2, min(_MOST_FRAMES, round(longer / TIME_STEP_SECONDS) + 1))
    model, spoken = prepare(reference, frames), prepare(recording, frames)
    cost = _local_cost(model.semitones, spoken.semitones)
    i, j = _path(_steps(cost, _step_cost(model.semitones, spoken.semitones)))
    return Alignment(model, spoken, i, j)


def _local_cost(reference: FloatArray, recording: FloatArray) -> FloatArray:
    difference = np.minimum(np.abs(reference[:, None] - recording[None, :]), _MOST_COST)
    voiced_here, voiced_there = np.isfinite(reference)[:, None], np.isfinite(recording)[None, :]
    cost = np.where(voiced_here & voiced_there, difference, VOICING_COST)
    cost[~voiced_here & ~voiced_there] = 0.0
    fraction = np.linspace(0, 1, len(reference))
    half = max(BAND_FRACTION, 1 / (len(reference) - 1))
    cost[np.abs(fraction[:, None] - fraction[None, :]) > half] = np.inf
    return cost


def _step_cost(reference: FloatArray, recording: FloatArray) -> FloatArray:
    pause = ~np.isfinite(reference)[:, None] & ~np.isfinite(recording)[None, :]
    return np.where(pause, _PAUSE_STEP_COST, _STEP_COST)


_DIAGONAL, _DOWN, _RIGHT = 0, 1, 2


def _steps(
    cost: FloatArray, step_cost: FloatArray
) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Return for each cell where the cheapest path comes from.

    Works along anti-diagonals, whose cells do not depend on each other, so that NumPy does a
    whole one at a time. Cells are kept by row: entry i of an anti-diagonal s is cell (i, s - i).
    """
    rows, columns = cost.shape
    steps = np.zeros(cost.shape, dtype=np.int8)
    previous, last = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)
    for total in range(rows + columns - 1):
        low, high = max(0, total - columns + 1), min(rows, total + 1)
        row = np.arange(low, high)
        here = cost[row, total - row]
        aside = here + step_cost[row, total - row]
        # Index 0 stands for the row before the first, so row r is entry r + 1.
        ways = np.stack((previous[row] + here, last[row] + aside, last[row + 1] + aside))
        if total == 0:
            ways[:, 0] = here[0]
        best = ways.argmin(axis=0)
        steps[row, total - row] = best
        current = np.full(rows + 1, np.inf)
        current[row + 1] = ways[best, np.arange(len(row))]
        previous, last = last, current
    return steps


def _path(steps: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> tuple[IntArray, IntArray]:
    i, j = steps.shape[0] - 1, steps.shape[1] - 1
    pairs = [(i, j)]
    while i or j:
        step = steps[i, j]
        i, j = i - (step != _RIGHT), j - (step != _DOWN)
        pairs.append((i, j))
    path = np.array(pairs[::-1], dtype=np.int64)
    return path[:, 0], path[:, 1]
