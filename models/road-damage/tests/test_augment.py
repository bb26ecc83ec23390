import numpy as np
import pytest

from road_damage import augment
from road_damage.augment import Placement
from road_damage.dataset import Sample

GROUND = 60
MARK = 250


def marked(boxes: list[tuple[int, int, int, int]], *, width: int = 96, height: int = 64) -> Sample:
    """A dark image whose damages are exactly the bright rectangles."""
    image = np.full((height, width, 3), GROUND, dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = MARK
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample("marked", image, array, np.arange(len(boxes), dtype=np.int64) % 4)


def bright_box(image: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(image[..., 0] > (GROUND + MARK) / 2)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    "placement",
    [
        Placement(1.0, (0, 0)),
        Placement(2.0, (-30, -20)),
        Placement(0.7, (11, 23)),
        Placement(1.0, (0, 0), flip=True),
        Placement(1.4, (-21.0, 5.0), flip=True),
    ],
)
def test_the_box_stays_on_what_it_marks(placement: Placement) -> None:
    view = augment.place(marked([(30, 20, 60, 40)]), placement, 128)
    assert len(view.boxes) == 1
    np.testing.assert_allclose(view.boxes[0], bright_box(view.image), atol=1.0)


def test_flip_mirrors_exactly() -> None:
    sample = marked([(10, 5, 30, 25)])
    view = augment.place(sample, Placement(1.0, (0, 0), flip=True), 96)
    np.testing.assert_array_equal(view.image[:64, :96], sample.image[:, ::-1])
    np.testing.assert_allclose(view.boxes, [[66, 5, 86, 25]])


def test_letterbox_keeps_the_shape_and_centres() -> None:
    view = augment.letterbox(marked([(0, 0, 96, 64)]), 192)
    np.testing.assert_allclose(view.boxes, [[0, 32, 192, 160]])
    assert tuple(view.image[10, 10]) == augment.PADDING


def test_a_damage_of_which_little_is_left_is_dropped() -> None:
    boxes = np.array([[-80, 0, 20, 50], [-20, 0, 80, 50]], dtype=np.float32)
    kept, classes = augment.clip(boxes, np.array([1, 2]), 100)
    np.testing.assert_allclose(kept, [[0, 0, 80, 50]])
    assert classes.tolist() == [2]


def test_a_long_damage_cut_at_the_border_keeps_its_class() -> None:
    kept, classes = augment.clip(np.array([[40, -50, 60, 150]], np.float32), np.array([0]), 100)
    np.testing.assert_allclose(kept, [[40, 0, 60, 100]])
    assert classes.tolist() == [0]


@pytest.mark.parametrize("seed", range(20))
def test_random_views_keep_boxes_on_their_marks(seed: int) -> None:
    random = np.random.default_rng(seed)
    view = augment.random_view(marked([(40, 25, 56, 45)]), 128, random)
    if len(view.boxes):
        np.testing.assert_allclose(view.boxes[0], bright_box(view.image), atol=1.5)


@pytest.mark.parametrize("seed", range(20))
def test_every_box_of_a_mosaic_is_bright_inside_and_within_the_canvas(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [marked([(20, 20, 60, 50)]) for _ in range(4)]
    view = augment.mosaic(samples, 128, random)
    assert view.image.shape == (128, 128, 3)
    assert len(view.boxes) == len(view.classes)
    for x1, y1, x2, y2 in view.boxes:
        assert 0 <= x1 < x2 <= 128
        assert 0 <= y1 < y2 <= 128
        inner = view.image[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2]
        assert inner.size == 0 or inner.min() > 200


def test_mosaics_show_damages_of_several_images() -> None:
    samples = [marked([(20, 20, 60, 50)]) for _ in range(4)]
    counts = [
        len(augment.mosaic(samples, 128, np.random.default_rng(seed)).boxes) for seed in range(20)
    ]
    assert max(counts) >= 3


def test_colour_changes_values_and_keeps_the_place() -> None:
    sample = marked([(30, 20, 60, 40)])
    changed = augment.colour(sample.image, np.random.default_rng(3))
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, sample.image)
    assert bright_box(changed) == bright_box(sample.image)


def test_an_image_without_damage_stays_without() -> None:
    view = augment.augmented(marked([]), [], 128, np.random.default_rng(0))
    assert view.boxes.shape == (0, 4)
