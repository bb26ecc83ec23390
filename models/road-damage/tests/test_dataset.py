from pathlib import Path

import cv2
import numpy as np
import pytest

from road_damage.dataset import EpochOrder, Sample, parse_labels, read_video, repeat_factors


def sample(name: str, *classes: int) -> Sample:
    boxes = np.tile(np.array([[10, 10, 50, 50]], dtype=np.float32), (len(classes), 1))
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    return Sample(name, image, boxes, np.array(classes, dtype=np.int64))


SAMPLES = [sample(f"{i}", *([3] if i == 0 else [0] if i < 15 else [])) for i in range(20)]


def test_labels_become_corners_in_pixels() -> None:
    boxes, classes = parse_labels("3 0.5 0.25 0.2 0.1\n", width=100, height=200)
    np.testing.assert_allclose(boxes, [[40, 40, 60, 60]], atol=1e-4)
    assert classes.tolist() == [3]


def test_an_empty_label_file_is_an_image_without_damage() -> None:
    boxes, classes = parse_labels("", width=100, height=100)
    assert boxes.shape == (0, 4)
    assert classes.shape == (0,)


@pytest.mark.parametrize("text", ["7 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "-1 0.5 0.5 0.1 0.1"])
def test_broken_labels_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"class|five"):
        parse_labels(text, width=10, height=10)


def test_images_of_rare_classes_come_more_often() -> None:
    factors = repeat_factors(SAMPLES, 0.5)
    assert factors[0] == 3.0
    assert factors[1] == 1.0
    assert factors[19] == 1.0


def test_an_epoch_shows_every_image() -> None:
    order = EpochOrder.build(SAMPLES, threshold=0.5, seed=4)
    assert set(order.epoch(0)) == set(range(20))
    assert (order.epoch(0) == 0).sum() == 3


def test_batches_follow_the_epochs_without_gap() -> None:
    order = EpochOrder.build(SAMPLES, threshold=0.5, seed=4)
    shown = [i for step in range(11) for i in order.batch(step, 4)]
    expected = np.concatenate([order.epoch(n) for n in range(2)])
    assert shown == expected[:44].tolist()
    assert order.epoch(0).tolist() != order.epoch(1).tolist()


def test_every_third_frame_of_a_video_is_an_image_without_damage(tmp_path: Path) -> None:
    path = tmp_path / "road.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(7):
        writer.write(np.full((48, 64, 3), 30 * number, dtype=np.uint8))
    writer.release()
    frames = read_video(path, every=3)
    assert [round(float(frame.image.mean()) / 30) for frame in frames] == [0, 3, 6]
    assert all(frame.boxes.shape == (0, 4) for frame in frames)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "road.avi"
    path.write_bytes(b"no video")
    with pytest.raises(ValueError, match="no frames"):
        read_video(path, every=1)
