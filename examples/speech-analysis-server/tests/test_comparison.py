import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_analysis_server.alignment import align
from speech_analysis_server.comparison import Reference, compare, score
from speech_analysis_server.pitch import PitchContour
from speech_analysis_server.textgrid import Interval, WordTier
from speech_analysis_server.values import FloatArray, Json

STEP = 0.01
WORDS = WordTier(
    "words", (Interval("one", 0.2, 0.6), Interval("two", 0.7, 1.2), Interval("three", 1.3, 1.8))
)


def melody(*, stretch: float = 1.0, factor: float = 1.0, swap: bool = False) -> PitchContour:
    """Three words with their own melodies and voiceless gaps; `swap` turns them upside down."""
    times = np.arange(0, 2.0 * stretch, STEP)
    at = times / stretch
    shape = 3 * np.sin(2 * np.pi * (at - 0.2) / 0.8) + 2 * np.cos(2 * np.pi * at / 0.31)
    frequencies = factor * 150.0 * 2 ** ((-shape if swap else shape) / 12)
    inside = np.zeros(len(at), dtype=bool)
    for word in WORDS.intervals:
        inside |= (at >= word.start) & (at < word.end)
    frequencies[~inside] = np.nan
    return PitchContour(times, frequencies)


def compared(recording: PitchContour, words: WordTier | None = WORDS) -> Json:
    comparison = compare(recording, Reference(melody(), words))
    assert comparison is not None
    return comparison.document


def test_the_same_melody_is_perfect() -> None:
    document = compared(melody())
    assert document["distance_semitones"] == pytest.approx(0, abs=1e-6)
    assert document["score"] == 100
    assert document["correlation"] == pytest.approx(1)
    assert [i["score"] for i in document["intervals"]] == [100, 100, 100]


@pytest.mark.parametrize("stretch", [0.7, 0.9, 1.25, 1.6])
def test_speaking_slower_or_faster_costs_nothing_and_words_are_found(stretch: float) -> None:
    document = compared(melody(stretch=stretch))
    assert document["distance_semitones"] < 0.35
    assert document["score"] > 95
    assert document["tempo_ratio"] == pytest.approx(stretch, rel=0.02)
    for word, interval in zip(WORDS.intervals, document["intervals"], strict=True):
        assert interval["label"] == word.label
        assert interval["start"] == pytest.approx(word.start * stretch, abs=0.05)
        assert interval["end"] == pytest.approx(word.end * stretch, abs=0.05)
        assert interval["score"] > 90


@pytest.mark.parametrize("factor", [0.5, 0.8, 2.0])
def test_speaking_higher_or_lower_costs_nothing(factor: float) -> None:
    document = compared(melody(factor=factor))
    assert document["score"] > 99.9
    assert document["correlation"] == pytest.approx(1)


def test_another_melody_costs() -> None:
    document = compared(melody(swap=True))
    assert document["score"] < 60
    assert document["distance_semitones"] > 2


def test_one_word_spoken_wrongly_lowers_that_word() -> None:
    recording = melody()
    wrong = (recording.times >= 0.7) & (recording.times < 1.2)
    recording.frequencies[wrong] = 150 * 2 ** (np.linspace(7, -7, int(wrong.sum())) / 12)
    scores = {i["label"]: i["score"] for i in compared(recording)["intervals"]}
    assert scores["two"] < min(scores["one"], scores["three"]) - 20


def test_without_words_only_the_whole_is_compared() -> None:
    document = compared(melody(), words=None)
    assert document["score"] == 100
    assert document["intervals"] == []
    assert "TextGrid" in document["notes"][0]


def test_without_pitch_the_words_are_listed() -> None:
    comparison = compare(melody(), Reference(None, WORDS))
    assert comparison is not None
    assert comparison.document["score"] is None
    assert [i["label"] for i in comparison.document["intervals"]] == ["one", "two", "three"]
    assert comparison.document["intervals"][0]["reference_duration"] == pytest.approx(0.4)
    assert "pitch" in comparison.document["notes"][0]


def test_nothing_to_compare() -> None:
    assert compare(melody(), Reference()) is None
    mute = PitchContour(np.arange(0, 1, STEP), np.full(100, np.nan))
    comparison = compare(mute, Reference(melody(), WORDS))
    assert comparison is not None
    assert comparison.document["score"] is None
    assert "voiced" in comparison.document["notes"][0]


def test_long_contours_stay_affordable() -> None:
    times: FloatArray = np.arange(0, 600, STEP, dtype=np.float64)
    long = PitchContour(times, (150 + 30 * np.sin(times)).astype(np.float64))
    alignment = align(long, long)
    assert len(alignment.reference.times) <= 2_000
    assert alignment.map_time(300) == pytest.approx(300, abs=0.5)


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(60, 600)), min_size=2, max_size=60),
    st.lists(st.one_of(st.just(float("nan")), st.floats(60, 600)), min_size=2, max_size=60),
)
def test_paths_are_monotonic_and_whole(one: list[float], other: list[float]) -> None:
    contours = [
        PitchContour(
            np.arange(len(values) + 2) * np.float64(STEP), np.array([100.0, *values, 120.0])
        )
        for values in (one, other)
    ]
    alignment = align(*contours)
    i, j = alignment.reference_index, alignment.recording_index
    assert (i[0], j[0]) == (0, 0)
    assert (i[-1], j[-1]) == (
        len(alignment.reference.times) - 1,
        len(alignment.recording.times) - 1,
    )
    steps = np.stack([np.diff(i), np.diff(j)])
    assert ((steps >= 0) & (steps <= 1)).all()
    assert (steps.sum(axis=0) >= 1).all()


def test_the_score_halves_at_three_semitones() -> None:
    assert score(0.0, 1.0) == 100
    assert score(3.0, 1.0) == pytest.approx(50)
    assert score(0.0, 0.5) == pytest.approx(50)
    assert score(None, 0.0) == 0
    assert score(None, None) is None
