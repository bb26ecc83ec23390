"""Decides for each pixel: what this clip shows, or what the camera showed before.

The earlier picture is moved onto the present one and brought into its light. Where they agree,
the clip stands. Where they do not:

* some of the clip's samples show the earlier road (between vehicles): the mean of those samples;
* the clip is not sure (a jam): the earlier road, if it is recent and in a like light;
* the clip is sure of something else and it is small: new damage, which must not be hidden;
* the same and large (a parked vehicle): the earlier road, until it has stayed for hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.align import STILL_PIXELS, measure, move, shrink
from headrace_gpu_preprocessor.background.device import Counting
from headrace_gpu_preprocessor.background.estimate import CONFIDENT_SHARE, Estimate, votes
from headrace_gpu_preprocessor.background.light import Light, fit_light
from headrace_gpu_preprocessor.background.memory import CameraMemory

Image = NDArray[np.uint8]
Share = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: A camera that seems to look elsewhere replaces what was known if so much of the clip is sure.
_GOOD_CLIP: Final = 0.9
#: What is known outlasts a light that it cannot be compared in for so long: a night.
_KEPT_SECONDS: Final = 86_400.0
#: What so many samples agree on stood still: the light is measured on it.
_STEADY_SHARE: Final = 0.8
#: Grey levels between two averaged pictures beyond which they show different things.
_DIFFERENT_LEVELS: Final = 14
#: Share of the samples that must show the earlier road for them to be taken.
_MIN_VOTES: Final = 0.08
#: What is remembered counts 1/e after a week.
_AGE_SECONDS: Final = 7 * 86_400.0
#: Below this trust the earlier picture is not used.
_MIN_TRUST: Final = 0.2
#: A change larger than this share of the picture is a thing on the road, not damage to it.
_SMALL_CHANGE: Final = 0.002
#: A large change that stays so long is the road.
_ACCEPT_SECONDS: Final = 6 * 3600
#: If less of the sure picture agrees with the earlier one, the camera looks elsewhere.
_MIN_AGREEING: Final = 0.4


class Source(IntEnum):
    """Where a pixel comes from; the values of the mask."""

    CLIP = 0
    VOTES = 1
    EARLIER = 2


@dataclass(frozen=True)
class Merged:
    """The background.

    Attributes:
        picture: BGR.
        confidence: 0 to 1 by pixel.
        source: where each pixel comes from, by `Source`.
        memory: to keep for the next clip.
        light: between the earlier picture and this one; None without one.
        camera_moved: the earlier picture shows something else, and was not used.
    """

    picture: Image
    confidence: Share
    source: NDArray[np.uint8]
    memory: CameraMemory
    light: Light | None = None
    camera_moved: bool = False


def merge(
    clip: Estimate,
    frames: Sequence[Image],
    earlier: CameraMemory | None,
    now: float,
    counting: Counting,
) -> Merged:
    """Merge a clip with what is known of its camera.

    Args:
        clip: the background by this clip alone.
        frames: its samples.
        earlier: None for a camera that is new.
        now: seconds since 1970.
        counting: what counts.
    """
    if earlier is None or earlier.picture.shape != clip.picture.shape:
        return _alone(clip, now)
    placed = _place(earlier, clip)
    light = fit_light(placed.picture, clip.picture, clip.support >= _STEADY_SHARE)
    if light.likeness == 0:
        fresh = now - float(earlier.seen_at.max()) < _KEPT_SECONDS
        return _alone(clip, now, keep=earlier if fresh else None, light=light)
    lit = light.apply(placed.picture)
    sure = clip.support >= CONFIDENT_SHARE
    different = _different(lit, clip.picture)
    known = placed.weight >= CONFIDENT_SHARE
    if (different & sure & known).sum() > (1 - _MIN_AGREEING) * max(1, (sure & known).sum()):
        good = (clip.support >= CONFIDENT_SHARE).mean() >= _GOOD_CLIP
        return _alone(clip, now, keep=None if good else earlier, light=light, moved=True)
    trust = _trust(placed, light, now)
    doubtful = different & (trust >= _MIN_TRUST)
    voted = votes(frames, lit, counting, where=doubtful)
    return _choose(clip, voted, placed, lit, different, trust, light, now)


def _choose(
    clip: Estimate,
    voted: Estimate,
    earlier: CameraMemory,
    lit: Image,
    different: Mask,
    trust: Share,
    light: Light,
    now: float,
) -> Merged:
    sure = clip.support >= CONFIDENT_SHARE
    doubtful = different & (trust >= _MIN_TRUST)
    by_votes = doubtful & (voted.support >= _MIN_VOTES)
    changed = doubtful & sure & ~by_votes & ~_small(doubtful)
    changed_at = np.where(changed, np.where(earlier.changed_at, earlier.changed_at, int(now)), 0)
    pending = changed & (int(now) - changed_at < _ACCEPT_SECONDS)
    by_earlier = pending | (doubtful & ~sure & ~by_votes)
    # Where the clip is unsure and yet agrees, the earlier sight confirms it.
    confirmed = ~different & ~sure & (trust >= _MIN_TRUST)

    picture = clip.picture.copy()
    cv2.copyTo(voted.picture, by_votes.view(np.uint8), picture)
    cv2.copyTo(lit, by_earlier.view(np.uint8), picture)
    confidence = clip.support.copy()
    np.maximum(clip.support, trust, out=confidence, where=by_votes | confirmed)
    np.copyto(confidence, trust, where=by_earlier)
    source = np.full(confidence.shape, Source.CLIP, np.uint8)
    source[by_votes] = Source.VOTES
    source[by_earlier] = Source.EARLIER
    fresh = (sure | by_votes) & ~by_earlier
    keep = earlier.weight > clip.support
    memory = CameraMemory(
        picture=picture,
        weight=np.where(fresh | ~keep, np.maximum(clip.support, voted.support), earlier.weight),
        seen_at=np.where(fresh | ~keep, np.uint32(now), earlier.seen_at),
        changed_at=np.where(pending, changed_at, 0).astype(np.uint32),
    )
    return Merged(picture, confidence, source, memory, light)


def _alone(
    clip: Estimate,
    now: float,
    *,
    keep: CameraMemory | None = None,
    light: Light | None = None,
    moved: bool = False,
) -> Merged:
    """Return the clip as it is, and it or what is to be kept as the memory."""
    size = clip.support.shape
    memory = keep or CameraMemory(
        picture=clip.picture,
        weight=clip.support,
        seen_at=np.full(size, int(now), np.uint32),
        changed_at=np.zeros(size, np.uint32),
    )
    source = np.zeros(size, np.uint8)
    return Merged(clip.picture, clip.support, source, memory, light, camera_moved=moved)


def _place(earlier: CameraMemory, clip: Estimate) -> CameraMemory:
    """Move the earlier picture onto the clip's; whether it shows the same comes later."""
    reference, grey = shrink(clip.picture), shrink(earlier.picture)
    # The light may differ: compare forms, not levels.
    shift = measure(reference, grey * (reference.mean() / max(1.0, float(grey.mean()))))
    if shift is None:
        return earlier
    scale = clip.picture.shape[1] / reference.shape[1]
    x, y = shift[0] * scale, shift[1] * scale
    if max(abs(x), abs(y)) < STILL_PIXELS:
        return earlier
    back = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    size = (clip.picture.shape[1], clip.picture.shape[0])
    weight = cv2.warpAffine(earlier.weight, back, size)  # beyond the edge nothing is known: 0
    step = (round(y), round(x))
    return CameraMemory(
        picture=move(earlier.picture, (x, y)),
        weight=np.asarray(weight, dtype=np.float32),
        seen_at=np.roll(earlier.seen_at, (-step[0], -step[1]), (0, 1)),
        changed_at=np.roll(earlier.changed_at, (-step[0], -step[1]), (0, 1)),
    )


def _trust(earlier: CameraMemory, light: Light, now: float) -> Share:
    age = np.maximum(0.0, now - earlier.seen_at.astype(np.float64))
    return (earlier.weight * np.exp(-age / _AGE_SECONDS) * light.likeness).astype(np.float32)


def _different(first: Image, second: Image) -> Mask:
    """Where two pictures show different things, without single pixels."""
    blue, green, red = cv2.split(cv2.absdiff(first, second))
    levels = cv2.max(cv2.max(blue, green), red)
    mask = (levels > _DIFFERENT_LEVELS).astype(np.uint8)
    return np.asarray(cv2.medianBlur(mask, 3), dtype=bool)


def _small(mask: Mask) -> Mask:
    """Return the parts of a mask that are small."""
    count, labels, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    small = np.zeros(count, bool)
    small[1:] = found[1:, cv2.CC_STAT_AREA] <= _SMALL_CHANGE * mask.size
    return np.asarray(small[labels], dtype=bool)
