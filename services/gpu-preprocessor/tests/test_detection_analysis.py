"""From a picture to damage_analysis.json and damage_result.jpg, with the shipped model."""

import json
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from headrace_gpu_preprocessor.detection.analysis import DamageAnalysis, analyse
from headrace_gpu_preprocessor.detection.detector import Detections, Detector, Image, ModelInfo
from headrace_gpu_preprocessor.detection.drawing import draw, encode_jpeg, summary
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.detection.severity import Severity, severity
from headrace_gpu_preprocessor.simulate import Scene

SETTINGS = DetectionSettings()


class Knows:
    """Finds given boxes, xyxy in shares of what it is shown whole; for arithmetic, not for AI."""

    def __init__(self, *found: tuple[float, float, float, float, float, int]) -> None:
        self.info = ModelInfo("knows", "0" * 64, ("D00", "D10", "D20", "D40"), 0.3, 1000)
        self._rows = np.array(found, np.float32).reshape(-1, 6)

    def detect(self, pictures: Sequence[Image]) -> list[Detections]:
        rows = self._rows
        found = Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))
        height, width = pictures[0].shape[:2]
        return [found.scaled(width, height) for _ in pictures]


GREY = np.full((100, 200, 3), 110, np.uint8)


def look(detector: Detector, usable: object = None, region: object = None) -> DamageAnalysis:
    def mask(value: object) -> np.ndarray | None:
        return None if value is None else np.asarray(value, dtype=bool)

    return analyse(GREY, mask(usable), mask(region), detector, SETTINGS)


def where(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((100, 200), bool)
    mask[rows, columns] = True
    return mask


def test_areas_and_shares_count_usable_road_once() -> None:
    detector = Knows((0.1, 0.1, 0.3, 0.3, 0.9, 0), (0.2, 0.1, 0.4, 0.3, 0.8, 2))
    found = look(detector)
    assert [damage.area_pixels for damage in found.damages] == [800, 800]
    assert found.damaged_pixels == 1200  # the overlap once
    assert found.damaged_share == 0.06
    assert found.road_pixels == 20_000
    half = look(detector, region=where(slice(None), slice(0, 100)))
    assert half.damaged_share == 0.12
    assert half.masked_share == 0
    hidden = look(detector, usable=~where(slice(0, 15), slice(None)))
    assert [damage.area_pixels for damage in hidden.damages] == [600, 600]
    assert hidden.masked_share == 0.15


def test_a_box_mostly_off_the_usable_road_does_not_count() -> None:
    detector = Knows((0.1, 0.1, 0.3, 0.3, 0.9, 0))
    assert not look(detector, region=where(slice(None), slice(40, 200))).damages
    assert look(detector, region=where(slice(None), slice(39, 200))).damages
    nothing = look(detector, usable=np.zeros((100, 200)))
    assert (nothing.damages, nothing.damaged_share, nothing.masked_share) == ((), 0.0, 1.0)


def test_the_json_says_all_and_is_always_the_same() -> None:
    detector = Knows((0.1, 0.1, 0.3, 0.3, 0.8, 0), (0.5, 0.5, 0.7, 0.9, 0.9, 3))
    found = look(detector)
    assert found.as_bytes() == look(detector).as_bytes()
    told = json.loads(found.as_bytes())
    assert told["damages"] == [
        {
            "id": 1,
            "class": "D40",
            "title": "Pothole",
            "score": 0.9,
            "xyxy": [100.0, 50.0, 140.0, 90.0],
            "area_pixels": 1600,
            "share_of_road": 0.08,
            "severity": "high",
        },
        {
            "id": 2,
            "class": "D00",
            "title": "Longitudinal crack",
            "score": 0.8,
            "xyxy": [20.0, 10.0, 60.0, 30.0],
            "area_pixels": 800,
            "share_of_road": 0.04,
            "severity": "medium",
        },
    ]
    assert told["damages_by_class"] == {"D00": 1, "D10": 0, "D20": 0, "D40": 1}
    assert told["damaged_share"] == 0.12
    assert told["worst_severity"] == "high"
    assert told["version"] == 1
    assert told["model"]["sha256"] == "0" * 64
    assert told["picture"] == {"width": 200, "height": 100}
    assert told["views"] == {"whole_scale": 1.0, "tiles": 0, "tile_scale": None}


def test_a_mask_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="a mask of"):
        look(Knows(), usable=np.ones((10, 10)))


@pytest.mark.parametrize(
    ("label", "width", "height", "score", "expected"),
    [
        # On a road of 1,000 pixels. Cracks by their length, whichever way it lies.
        ("D00", 30, 199, 0.9, "low"),
        ("D00", 30, 200, 0.9, "medium"),
        ("D00", 30, 500, 0.9, "high"),
        ("D10", 149, 10, 0.9, "low"),
        ("D10", 150, 10, 0.9, "medium"),
        ("D10", 400, 10, 0.9, "high"),
        # Areas by the root of theirs.
        ("D20", 99, 99, 0.9, "low"),
        ("D20", 200, 50, 0.9, "medium"),
        ("D20", 250, 250, 0.9, "high"),
        ("D40", 39, 40, 0.9, "low"),
        ("D40", 40, 40, 0.9, "medium"),
        ("D40", 100, 100, 0.9, "high"),
        # What the model is not sure of is never high. From 0.3 a fifth of the way to 1 is 0.44.
        ("D40", 100, 100, 0.43, "medium"),
        ("D40", 100, 100, 0.45, "high"),
        ("D40", 39, 40, 0.31, "low"),
        # Another model's class.
        ("ravelling", 250, 250, 0.9, "high"),
        ("ravelling", 99, 99, 0.9, "low"),
    ],
)
def test_severity(label: str, width: float, height: float, score: float, expected: str) -> None:
    judged = severity(
        label, width=width, height=height, road_width=1000, score=score, threshold=0.3
    )
    assert judged == Severity(expected)


def test_severities_have_an_order() -> None:
    assert sorted(Severity, key=lambda one: one.rank) == ["low", "medium", "high"]


def test_severity_is_measured_against_the_road_where_the_damage_lies() -> None:
    detector = Knows((0.5, 0.0, 0.55, 0.1, 0.9, 3))  # 10 x 10 pixels
    assert look(detector).damages[0].severity == Severity.MEDIUM
    narrow = where(slice(None), slice(80, 120))  # 40 pixels wide: a quarter of it
    assert look(detector, region=narrow).damages[0].severity == Severity.HIGH


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene("light", 1280, 720)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(DetectionSettings())


def test_the_shipped_model_finds_known_damage_on_a_rendered_road(
    scene: Scene, detector: Detector
) -> None:
    picture = scene.truth
    found = analyse(picture, None, scene.road.mask, detector, SETTINGS)
    assert found.plan.tiles
    assert found.plan.pixels <= SETTINGS.detector_budget_megapixels * 1e6
    assert (
        found.as_bytes() == analyse(picture, None, scene.road.mask, detector, SETTINGS).as_bytes()
    )
    alligator = next(damage for damage in scene.road.damage if damage.label == "D20")
    x1, y1, x2, y2 = alligator.xyxy
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    boxes = [damage.xyxy for damage in found.damages if damage.label == "D20"]
    assert any(box[0] < x < box[2] and box[1] < y < box[3] for box in boxes)


def test_without_memory_for_a_batch_the_analysis_is_the_same(
    scene: Scene, detector: Detector
) -> None:
    class Small:
        """The same model, on a GPU with room for two tiles."""

        info = detector.info

        def detect(self, pictures: Sequence[Image]) -> list[Detections]:
            if len(pictures) > 2:
                raise MemoryError("Failed to allocate memory for requested buffer")
            return detector.detect(pictures)

    alone = replace_batch(1)
    expected = analyse(scene.truth, None, None, detector, alone).as_bytes()
    assert analyse(scene.truth, None, None, Small(), replace_batch(8)).as_bytes() == expected


def replace_batch(size: int) -> DetectionSettings:
    return SETTINGS.model_copy(update={"detector_batch": size})


@pytest.mark.parametrize("size", [(90, 160), (100, 200), (720, 1280), (2160, 3840)])
def test_the_drawing_fits_pictures_of_any_size(size: tuple[int, int]) -> None:
    height, width = size
    picture = np.full((height, width, 3), 110, np.uint8)
    before = picture.copy()
    boxes = [(0.1 * i, 0.1, 0.1 * i + 0.08, 0.4, 0.9, i % 4) for i in range(9)]
    found = analyse(picture, None, None, Knows(*boxes), SETTINGS)
    usable = np.ones(size, bool)
    usable[: height // 3] = False
    region = np.ones(size, bool)
    region[:, : width // 4] = False
    drawn = draw(picture, found, usable_mask=usable, region_mask=region)
    np.testing.assert_array_equal(picture, before)
    assert drawn.shape[1] == max(640, width)
    assert drawn.shape[0] > height
    # Off the road it is darker, what was not seen is hatched, and the damage is in colour.
    scale = drawn.shape[1] / width
    middle = drawn[int(height * 0.8 * scale)]
    assert middle[int(width * 0.1 * scale)].max() < 70
    assert middle[int(width * 0.6 * scale)].tolist() == [110] * 3
    spread = drawn.max(axis=2).astype(int) - drawn.min(axis=2)
    assert (spread > 80).sum() > 500
    assert encode_jpeg(drawn) == encode_jpeg(
        draw(picture, found, usable_mask=usable, region_mask=region)
    )
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(drawn), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == drawn.shape


def test_the_summary_line() -> None:
    assert summary(look(Knows())) == "No damage found"
    one = look(Knows((0.1, 0.1, 0.3, 0.3, 0.9, 3)))
    assert summary(one) == "1 damage, worst: high - 1 x pothole - 4.0% of the road"
    two = look(
        Knows((0.1, 0.1, 0.12, 0.14, 0.9, 3), (0.5, 0.5, 0.52, 0.54, 0.9, 3)),
        usable=~where(slice(90, 100), slice(None)),
    )
    assert summary(two) == (
        "2 damages, worst: low - 2 x pothole - 0.2% of the road - 10% of the road not seen"
    )


def test_a_class_of_another_model_is_drawn_too() -> None:
    found = look(Knows((0.1, 0.1, 0.3, 0.3, 0.9, 0)))
    model = replace(found.model, labels=("Spurrinne äöü",))
    damage = replace(found.damages[0], label="Spurrinne äöü", title="Spurrinne äöü")
    drawn = draw(GREY, replace(found, model=model, damages=(damage,)))
    assert drawn.shape[1] == 640
