"""Backgrounds against the known truth, beside the plain median, MOG2 and KNN."""

import gc
import tracemalloc
from functools import cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background import (
    Background,
    BackgroundBuilder,
    CameraMemory,
    DirectoryCameraStore,
    Source,
)
from headrace_gpu_preprocessor.background.estimate import CONFIDENT_SHARE, estimate, median
from headrace_gpu_preprocessor.background.light import fit_light
from headrace_gpu_preprocessor.background.samples import Samples
from headrace_gpu_preprocessor.simulate import VARIANTS, Scene, Variant

Image = NDArray[np.uint8]

_NOW = 1_800_000_000.0
_HOUR = 3600.0
_SAMPLES = 50
#: Levels by which the worst channel of a bad pixel is off.
_BAD_LEVELS = 20
#: Figures are given to a hundredth of a decibel.
_EQUAL_DB = 0.01


@cache
def _scene(variant: Variant, seed: int = 3, light: float = 1.0) -> Scene:
    return Scene(variant, 320, 180, seconds=20, rate=10, seed=seed, light=light)


@cache
def _frames(scene: Scene) -> tuple[Image, ...]:
    return tuple(scene.frame(number) for number in range(0, scene.count, scene.count // _SAMPLES))


def _build(
    scene: Scene, earlier: CameraMemory | None = None, now: float = _NOW + _HOUR
) -> Background:
    builder = BackgroundBuilder()
    for number, frame in enumerate(_frames(scene)):
        builder.add(frame, number * 0.4)
    return builder.build(now=now, earlier=earlier, region=scene.road.mask)


@pytest.fixture(scope="module")
def earlier() -> CameraMemory:
    """What the camera showed an hour ago: light traffic, a tenth darker."""
    return _build(_scene("light", seed=50, light=0.9), now=_NOW).memory


def _where(scene: Scene) -> NDArray[np.bool_]:
    """The road without the rows and columns that shake moves in and out."""
    inner = np.zeros_like(scene.road.mask)
    inner[6:-6, 6:-6] = True
    return scene.road.mask & inner


def _psnr(picture: Image, scene: Scene) -> float:
    where = _where(scene)
    error = (picture[where].astype(float) - scene.truth[where]) ** 2
    return float(10 * np.log10(255**2 / error.mean()))


def _bad(picture: Image, scene: Scene) -> float:
    where = _where(scene)
    off = np.abs(picture[where].astype(int) - scene.truth[where]).max(axis=1)
    return float((off > _BAD_LEVELS).mean())


def _by_subtractor(
    subtractor: cv2.BackgroundSubtractorMOG2 | cv2.BackgroundSubtractorKNN, scene: Scene
) -> Image:
    for number in range(scene.count):
        subtractor.apply(scene.frame(number))
    return cast("Image", subtractor.getBackgroundImage())


@pytest.mark.parametrize("count", [1, 2, 3, 50, 51, 255])
def test_the_median_is_exact(count: int) -> None:
    frames = list(np.random.default_rng(count).integers(0, 256, (count, 19, 7, 3), np.uint8))
    assert (median(frames) == np.sort(frames, axis=0)[(count - 1) // 2]).all()


def test_extremes_do_not_overflow() -> None:
    frames = [np.full((9, 4, 3), 255, np.uint8)] * 255
    found = estimate(frames)
    assert (found.picture == 255).all()
    assert (found.support == 1).all()
    with pytest.raises(ValueError, match="256"):
        median([*frames, frames[0]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_never_below_the_median(variant: Variant) -> None:
    for seed in (3, 4):
        scene = _scene(variant, seed=seed)
        plain, ours = median(_frames(scene)), _build(scene).picture
        assert _psnr(ours, scene) > _psnr(plain, scene) - _EQUAL_DB
        assert _bad(ours, scene) <= _bad(plain, scene)


@pytest.mark.parametrize("variant", VARIANTS)
def test_beside_mog2_and_knn(variant: Variant, earlier: CameraMemory) -> None:
    """In a jam and beside a parked vehicle one clip is not enough for anybody."""
    scene = _scene(variant)
    ours = _psnr(_build(scene, earlier if variant in {"jam", "parked"} else None).picture, scene)
    for subtractor in (
        cv2.createBackgroundSubtractorMOG2(history=scene.count, detectShadows=False),
        cv2.createBackgroundSubtractorKNN(history=scene.count, detectShadows=False),
    ):
        assert ours > _psnr(_by_subtractor(subtractor, scene), scene)


def test_shake_is_taken_out() -> None:
    scene = _scene("shake")
    built = _build(scene)
    assert _psnr(built.picture, scene) >= _psnr(median(_frames(scene)), scene) + 2
    assert built.meta["shake_pixels"] > 0.5


@pytest.mark.parametrize("variant", ["light", "heavy", "parked", "jam"])
def test_a_still_camera_is_left_still(variant: Variant) -> None:
    assert _build(_scene(variant)).meta["shake_pixels"] == 0


@pytest.mark.parametrize(("variant", "gain"), [("parked", 2.0), ("jam", 6.0)])
def test_the_earlier_background_helps(variant: Variant, gain: float, earlier: CameraMemory) -> None:
    scene = _scene(variant)
    alone, helped = _build(scene), _build(scene, earlier)
    plain = _psnr(median(_frames(scene)), scene)
    assert _psnr(helped.picture, scene) >= max(plain, _psnr(alone.picture, scene)) + gain
    assert helped.quality >= alone.quality
    assert helped.source.any()


@pytest.mark.parametrize("variant", ["light", "heavy", "shake"])
def test_the_earlier_background_does_no_harm(variant: Variant, earlier: CameraMemory) -> None:
    scene = _scene(variant)
    assert _psnr(_build(scene, earlier).picture, scene) >= _psnr(_build(scene).picture, scene) - 0.1


def test_the_mask_and_the_confidence_tell_what_was_not_seen(earlier: CameraMemory) -> None:
    scene = _scene("jam")
    alone, helped = _build(scene), _build(scene, earlier)
    assert not alone.usable[alone.confidence < CONFIDENT_SHARE].any()
    assert alone.meta["share_usable"] < 0.8
    assert helped.meta["share_usable"] > 0.95
    assert helped.meta["share_filled"] == pytest.approx(
        (helped.source == Source.EARLIER)[scene.road.mask].mean(), abs=1e-3
    )
    # What was filled shows the road: in this light, which is not the earlier one's.
    filled = (helped.source == Source.EARLIER) & _where(scene)
    assert np.abs(helped.picture[filled].astype(int) - scene.truth[filled]).mean() < 4


def test_a_vehicle_that_stands_for_the_whole_clip_is_filled_for_hours_only(
    earlier: CameraMemory,
) -> None:
    scene = _scene("light")
    place = (slice(100, 140), slice(140, 180))
    builder = BackgroundBuilder()
    for number, frame in enumerate(_frames(scene)):
        covered = frame.copy()
        covered[place] = (60, 60, 180)
        builder.add(covered, number * 0.4)
    first = builder.build(now=_NOW + _HOUR, earlier=earlier)
    assert (first.source[place] == Source.EARLIER).mean() > 0.9
    later = builder.build(now=_NOW + 4 * _HOUR, earlier=first.memory)
    assert (later.source[place] == Source.EARLIER).mean() > 0.9
    at_last = builder.build(now=_NOW + 8 * _HOUR, earlier=later.memory)
    assert (at_last.source[place] == Source.CLIP).mean() > 0.9


def test_new_damage_shows_at_once(earlier: CameraMemory) -> None:
    scene = _scene("light")
    place = (slice(120, 126), slice(150, 160))
    builder = BackgroundBuilder()
    for number, frame in enumerate(_frames(scene)):
        broken = frame.copy()
        broken[place] = (40, 40, 42)
        builder.add(broken, number * 0.4)
    built = builder.build(now=_NOW + _HOUR, earlier=earlier)
    assert np.abs(built.picture[place].astype(int) - 41).max() <= 3


def test_an_old_memory_or_another_view_is_not_used(earlier: CameraMemory) -> None:
    jam = _scene("jam")
    old = _build(jam, earlier, now=_NOW + 60 * 86_400)
    assert old.meta["share_filled"] == 0
    elsewhere = CameraMemory(
        np.random.default_rng(1).permutation(earlier.picture.reshape(-1, 3)).reshape(180, 320, 3),
        earlier.weight,
        earlier.seen_at,
        earlier.changed_at,
    )
    other = _build(_scene("light"), elsewhere)
    assert other.meta["camera_moved"]
    assert not other.source.any()


def test_a_memory_survives_the_disk(earlier: CameraMemory, tmp_path: Path) -> None:
    store = DirectoryCameraStore(tmp_path, most_cameras=2)
    assert store.load("../../etc/passwd") is None
    store.save("../../etc/passwd", earlier)
    loaded = store.load("../../etc/passwd")
    assert loaded is not None
    assert (loaded.picture == earlier.picture).all()
    assert (loaded.seen_at == earlier.seen_at).all()
    assert np.abs(loaded.weight - earlier.weight).max() < 0.005
    assert [path.parent for path in tmp_path.rglob("*.npz")] == [tmp_path]
    for camera in ("a", "b"):
        store.save(camera, earlier)
    assert len(list(tmp_path.iterdir())) == 2
    next(tmp_path.iterdir()).write_bytes(b"PK broken")
    assert sum(store.load(camera) is None for camera in ("a", "b")) == 1


def test_memory_does_not_grow_with_the_clip() -> None:
    frame = np.zeros((90, 160, 3), np.uint8)
    peaks = []
    for count in (100, 2000):
        gc.collect()
        tracemalloc.start()
        samples = Samples(50)
        for number in range(count):
            samples.add(frame + np.uint8(number % 200), number / 25)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert 25 <= len(samples.frames) <= 50
        assert len(samples.frames) + samples.dropped == count
        steps = np.diff(samples.times)
        assert np.allclose(steps, steps[0])
    assert peaks[1] < peaks[0] * 1.2


def test_an_odd_frame_is_dropped_and_none_is_an_error() -> None:
    builder = BackgroundBuilder()
    with pytest.raises(ValueError, match="at least one"):
        builder.build(now=_NOW)
    for size in ((18, 32), (36, 64)):
        builder.add(np.full((*size, 3), 9, np.uint8), 0.0)
    built = builder.build(now=_NOW)
    assert built.picture.shape == (18, 32, 3)
    assert built.meta["samples_dropped"] == 1
    assert built.quality <= 0.05


def test_the_light_is_measured_although_much_has_changed() -> None:
    random = np.random.default_rng(1)
    past = random.integers(20, 200, (120, 160, 3)).astype(np.uint8)
    present = np.clip(past * 1.2 + 5, 0, 255).astype(np.uint8)
    present[:, :64] = random.integers(0, 256, (120, 64, 3))
    light = fit_light(past, present, np.ones((120, 160), bool))
    assert light.gain == pytest.approx((1.2, 1.2, 1.2), abs=0.03)
    assert 0.5 < light.likeness < 0.8
    assert np.abs(light.apply(past)[:, 64:].astype(int) - present[:, 64:]).max() <= 4
    night = fit_light(past, (past // 5).astype(np.uint8), np.ones((120, 160), bool))
    assert night.likeness == 0


def test_a_night_does_not_wipe_out_what_was_known(earlier: CameraMemory) -> None:
    """At night nothing can be compared: the memory stays for the morning."""
    jam = _scene("jam", light=0.15)
    built = _build(jam, earlier)
    assert not built.meta["camera_moved"]
    assert not built.source.any()
    assert (built.memory.picture == earlier.picture).all()
    again = _build(_scene("jam"), built.memory, now=_NOW + 2 * _HOUR)
    assert again.meta["share_usable"] > 0.95
