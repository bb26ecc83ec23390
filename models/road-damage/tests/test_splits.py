import numpy as np
import pytest

from road_damage.dataset import Sample
from road_damage.splits import FRAME_GAP, apart, place_in_series

EMPTY = np.zeros((0, 4), dtype=np.float32)


def samples(*names: str) -> list[Sample]:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    return [Sample(name, image, EMPTY, np.zeros(0, dtype=np.int64)) for name in names]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/frame723.jpg", ("a/frame0", 723)),
        ("a/01282.jpg", ("a/5", 1282)),
        ("a/15701.jpg", ("a/5", 15701)),
        ("a/114.jpg", ("a/0", 114)),
        ("a/img-438.jpg", None),
        ("a/09471-Copy.jpg", None),
    ],
)
def test_series_and_number(name: str, expected: tuple[str, int] | None) -> None:
    assert place_in_series(name) == expected


def test_neighbours_of_training_frames_are_left_out() -> None:
    training = samples("a/frame100.jpg", "a/01281.jpg", "a/img-10.jpg")
    valid = samples(
        f"a/frame{100 - FRAME_GAP + 1}.jpg",
        f"a/frame{100 + FRAME_GAP}.jpg",
        "a/01282.jpg",
        "a/1282.jpg",
        "a/img-11.jpg",
        "b/frame101.jpg",
    )
    kept = [sample.name for sample in apart(valid, training)]
    assert kept == [f"a/frame{100 + FRAME_GAP}.jpg", "a/1282.jpg", "a/img-11.jpg", "b/frame101.jpg"]
