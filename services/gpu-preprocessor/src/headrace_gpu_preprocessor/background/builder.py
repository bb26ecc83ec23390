"""Builds a background from the samples of one clip, in one pass."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.align import steady
from headrace_gpu_preprocessor.background.device import Device, choose_counting
from headrace_gpu_preprocessor.background.estimate import CONFIDENT_SHARE, estimate
from headrace_gpu_preprocessor.background.memory import CameraMemory
from headrace_gpu_preprocessor.background.merge import Merged, Source, merge
from headrace_gpu_preprocessor.background.samples import DEFAULT_SAMPLES, Samples

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: With fewer samples than this the quality falls in proportion.
_ENOUGH_SAMPLES: Final = 20
#: Filled pixels count this much for quality beside those that the clip saw.
_FILLED_WORTH: Final = 0.8
_MIN_FILLED_CONFIDENCE: Final = 0.2


@dataclass(frozen=True)
class Background:
    """The road without its traffic.

    Attributes:
        picture: BGR.
        confidence: by pixel, 0 to 1.
        source: by pixel, values of `Source`: the clip, its votes for the earlier road, or that.
        usable: where damage may be looked for; elsewhere the clip never saw the road.
        quality: 0 to 1: usable share, less for filled pixels and for few samples.
        memory: to keep for the camera's next clip.
        meta: for `background_meta.json`.
    """

    picture: Image
    confidence: NDArray[np.float32]
    source: NDArray[np.uint8]
    usable: Mask
    quality: float
    memory: CameraMemory
    meta: dict[str, Any]


class BackgroundBuilder:
    """Takes a clip's frames as they come; its memory does not grow with the clip."""

    def __init__(self, samples: int = DEFAULT_SAMPLES, *, device: Device = "auto") -> None:
        """Make room for so many samples.

        Args:
            samples: kept at most.
            device: what counts; `auto` takes a GPU where torch sees one.

        Raises:
            RuntimeError: the device is not there.
        """
        self._samples = Samples(samples)
        self._counting = choose_counting(device)

    def add(self, pixels: Image, time: float) -> None:
        """Offer a frame, BGR, with its clip time in seconds."""
        self._samples.add(pixels, time)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames; both 0 before the first."""
        if not self._samples.frames:
            return 0, 0
        height, width = self._samples.frames[0].shape[:2]
        return width, height

    def build(
        self, *, now: float, earlier: CameraMemory | None = None, region: Mask | None = None
    ) -> Background:
        """Make the background.

        Args:
            now: seconds since 1970, when the clip was taken.
            earlier: what is known of the camera.
            region: where the road is, for the quality; None for the whole picture.

        Raises:
            ValueError: no frame was added.
        """
        if not self._samples.frames:
            raise ValueError("a background needs at least one frame")
        frames, shake = steady(self._samples.frames)
        merged = merge(estimate(frames, self._counting), frames, earlier, now, self._counting)
        filled = merged.source == Source.EARLIER
        usable = (merged.confidence >= CONFIDENT_SHARE) & ~filled
        usable |= filled & (merged.confidence >= _MIN_FILLED_CONFIDENCE)
        where = np.ones(usable.shape, bool) if region is None else region
        quality = _quality(usable[where], filled[where], len(frames))
        return Background(
            picture=merged.picture,
            confidence=merged.confidence,
            source=merged.source,
            usable=usable,
            quality=quality,
            memory=merged.memory,
            meta=self._meta(merged, shake, quality, usable[where], filled[where], where),
        )

    def _meta(
        self,
        merged: Merged,
        shake: float,
        quality: float,
        usable: Mask,
        filled: Mask,
        where: Mask,
    ) -> dict[str, Any]:
        samples = self._samples
        return {
            "samples": len(samples.frames),
            "sample_times_seconds": [round(time, 3) for time in samples.times],
            "samples_dropped": samples.dropped,
            "height": int(merged.picture.shape[0]),
            "width": int(merged.picture.shape[1]),
            "shake_pixels": round(shake, 2),
            "quality": quality,
            "share_usable": _share(usable),
            "share_filled": _share(filled),
            "share_by_votes": _share((merged.source == Source.VOTES)[where]),
            "mean_confidence": round(float(merged.confidence[where].mean()), 4),
            "camera_moved": merged.camera_moved,
            "light": None if merged.light is None else asdict(merged.light),
        }


def _quality(usable: Mask, filled: Mask, samples: int) -> float:
    worth = np.where(filled, _FILLED_WORTH, 1.0) * usable
    share = float(worth.mean()) if worth.size else 0.0
    return round(share * min(1.0, samples / _ENOUGH_SAMPLES), 4)


def _share(mask: Mask) -> float:
    return round(float(mask.mean()), 4) if mask.size else 0.0
