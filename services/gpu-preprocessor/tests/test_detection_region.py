"""Road regions: polygons, their masks, and the file that is read again when it changes."""

import json
from pathlib import Path

import numpy as np
import pytest

from headrace_common.contracts.regions import RegionError
from headrace_common.settings import BadSettingsError
from headrace_gpu_preprocessor.detection.region import CameraRegions, Region

SQUARE = [[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]]


def test_a_mask_is_the_polygon() -> None:
    mask = Region.parse(SQUARE).mask(200, 100)
    assert mask.shape == (100, 200)
    assert mask.mean() == pytest.approx(0.25, abs=0.02)
    assert mask[26:74, 51:149].all()
    assert not mask[:24].any()


def test_the_whole_picture_is_every_pixel() -> None:
    whole = Region.parse([[[0, 0], [1, 0], [1, 1], [0, 1]]])
    assert whole.mask(33, 17).all()


def test_polygons_that_overlap_add_up() -> None:
    twice = Region.parse([*SQUARE, *SQUARE, [[0, 0], [0.5, 0], [0, 0.5]]])
    assert twice.mask(200, 200)[60:140, 60:140].all()
    assert twice.mask(200, 200)[5, 5]


def test_a_region_reads_what_it_writes() -> None:
    region = Region.parse(SQUARE)
    assert Region.parse(region.as_json()) == region


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "list of 1 to 32 polygons"),
        ("road", "list of 1 to 32 polygons"),
        ([[[0, 0], [1, 1]]], "polygon 0: needs 3 to 200 points"),
        ([SQUARE[0], [[0, 0], [1, 1], [2, 0]]], r"polygon 1: \[2, 0\] is not within 0 to 1"),
        ([[[0, 0], [1, 1], [True, "a"]]], "is not within 0 to 1"),
        ([[[0, 0], [1, 1], [float("nan"), 0]]], "is not within 0 to 1"),
        ([[[0, 0], [1, 1], [True, 0]]], "is not within 0 to 1"),
        ([[[0, 0], [1, 1], [float("inf"), 0]]], "is not within 0 to 1"),
        ([[[0, 0], [1, 1], [int("9" * 400), 0]]], "polygon 0: .{100} is not within 0 to 1"),
        ([[[0, 0], [1, 1], [-(10**5_000), 0]]], "polygon 0: a point is not within 0 to 1"),
        ([[[0, 0], [1, 1], 3]], r"a point must be \[x, y\]"),
        ([[[0, 0], [0.5, 0.5], [1, 1]]], "has no area"),
    ],
)
def test_regions_that_are_none(value: object, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        Region.parse(value)


def test_each_camera_has_its_own_or_the_default(tmp_path: Path) -> None:
    path = tmp_path / "regions.json"
    path.write_text(json.dumps({"cam-1": SQUARE}))
    regions = CameraRegions(path)
    assert regions.of("cam-1") == Region.parse(SQUARE)
    assert regions.of("cam-2") is None
    path.write_text(json.dumps({"cam-1": SQUARE, "*": [[[0, 0], [1, 0], [0, 1]]]}))
    assert regions.of("cam-2") == Region.parse([[[0, 0], [1, 0], [0, 1]]])


def test_without_a_file_the_whole_picture_counts() -> None:
    assert CameraRegions(None).of("cam-1") is None


def test_a_slip_of_the_pen_leaves_the_regions_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "regions.json"
    path.write_text(json.dumps({"cam-1": SQUARE}))
    regions = CameraRegions(path)
    for wrong in ("{", json.dumps({"cam-1": [[[0, 0], [9, 9], [1, 0]]]})):
        path.write_text(wrong)
        assert regions.of("cam-1") == Region.parse(SQUARE)
    path.unlink()
    assert regions.of("cam-1") == Region.parse(SQUARE)
    path.write_text(json.dumps({"cam-1": [[[0, 0], [1, 0], [1, 1]]]}))
    assert regions.of("cam-1") == Region.parse([[[0, 0], [1, 0], [1, 1]]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "regions.json is not JSON"),
        ("[]", "must be an object"),
        ('{"cam-7": [[[0, 0]]]}', "camera 'cam-7': polygon 0: needs 3"),
    ],
)
def test_a_bad_file_ends_the_start(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "regions.json"
    path.write_text(text)
    with pytest.raises(BadSettingsError, match=message):
        CameraRegions(path)
    with pytest.raises(BadSettingsError, match="CAMERA_REGIONS_FILE"):
        CameraRegions(tmp_path / "missing.json")


def test_masks_of_odd_sizes() -> None:
    assert Region.parse(SQUARE).mask(1, 1).dtype == np.bool_
