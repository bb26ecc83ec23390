"""The clip's clock: steady whatever the stream's time stamps do."""

from itertools import pairwise

import pytest

from headrace_gpu_preprocessor.decoder.decode import output_size
from headrace_gpu_preprocessor.decoder.timeline import Timeline


def _run(stamps: list[float | None], *, rate: float = 10, seconds: float = 4) -> Timeline:
    timeline = Timeline(seconds, 8, rate)
    for stamp in stamps:
        timeline.place(stamp)
    return timeline


def test_a_steady_stream_has_no_gaps() -> None:
    timeline = _run([100 + number / 10 for number in range(40)])
    assert timeline.complete
    assert (timeline.gaps, timeline.discontinuities) == ([], 0)
    assert timeline.span == pytest.approx(4)
    assert timeline.covered == pytest.approx(4)


def test_missing_pictures_are_a_gap() -> None:
    timeline = _run([0.0, 0.1, 2.1, 2.2])
    ((at, length),) = timeline.gaps
    assert at == pytest.approx(0.2)
    assert length == pytest.approx(1.9)
    assert timeline.span == pytest.approx(2.3)
    assert timeline.covered == pytest.approx(0.4)


@pytest.mark.parametrize("jump", [-50.0, 0.1, 4000.0])
def test_a_jump_of_the_streams_clock_is_a_discontinuity(jump: float) -> None:
    timeline = _run([10.0, 10.1, jump, jump + 0.1])
    assert timeline.discontinuities == 1
    assert timeline.span == pytest.approx(0.4)


def test_a_clock_that_stands_still_moves_by_frames() -> None:
    timeline = _run([5.0] * 10)
    assert timeline.span == pytest.approx(1.0)
    assert timeline.discontinuities == 9


def test_without_stamps_the_rate_is_the_clock() -> None:
    assert _run([None] * 20).span == pytest.approx(2.0)
    assert _run([None] * 25, rate=0).span == pytest.approx(1.0)


def test_a_slow_camera_has_no_gaps() -> None:
    assert _run([0.0, 1.0, 2.0, 3.0], rate=1).gaps == []


@pytest.mark.parametrize("rate", [2, 7, 25, 60])
def test_samples_are_spread_evenly_and_never_too_many(rate: int) -> None:
    timeline = Timeline(4, 8, rate)
    times = [number / rate for number in range(rate * 5)]
    chosen = [time for time in times if timeline.wants(timeline.place(time))]
    assert len(chosen) == min(8, 4 * rate)
    assert chosen[0] == 0
    assert max(b - a for a, b in pairwise(chosen)) < 0.5 + 1.5 / rate


@pytest.mark.parametrize("size", [(3840, 2160), (8192, 100), (1921, 1089), (2, 10_000_000)])
def test_large_frames_are_handed_over_smaller(size: tuple[int, int]) -> None:
    width, height = output_size(*size, 1920 * 1088)
    assert 0 < width * height <= 1920 * 1088
    assert output_size(640, 360, 1920 * 1088) == (640, 360)
