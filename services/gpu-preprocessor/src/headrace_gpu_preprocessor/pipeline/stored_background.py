"""The background as it is stored: the picture, and the masks and facts in `background_meta.json`.

Detection works on exactly this, decoded again, and on nothing that only the process knew which
read the clip. So any process can go on where another died, and anybody can compute it again.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_common.artifact_sets import public_url
from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.contracts.regions import RegionError
from headrace_gpu_preprocessor.background import Background, Source
from headrace_gpu_preprocessor.background.masks import (
    BadMaskError,
    decode_mask,
    encode_levels,
    encode_mask,
)
from headrace_gpu_preprocessor.detection.drawing import encode_jpeg
from headrace_gpu_preprocessor.detection.region import Region
from headrace_gpu_preprocessor.pipeline.clip import Clip

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

VERSION: Final = 1


class BadBackgroundError(ValueError):
    """A stored background that cannot be gone on from; it is made again."""


@dataclass(frozen=True)
class StoredBackground:
    """A background, as stored.

    Attributes:
        jpeg: the content of `background.jpg`.
        document: the content of `background_meta.json`, as bytes.
        meta: the same, parsed.
        picture: the JPEG decoded, BGR.
        usable: where damage may be looked for.
        region: where the road is; None for the whole picture.
    """

    jpeg: bytes
    document: bytes
    meta: dict[str, Any]
    picture: Image
    usable: Mask
    region: Region | None

    @property
    def quality(self) -> float:
        """Of the background, 0 to 1."""
        return float(self.meta["background"]["quality"])

    @property
    def road(self) -> Mask | None:
        """Where the road is; None for everywhere."""
        height, width = self.picture.shape[:2]
        return None if self.region is None else self.region.mask(width, height)

    @classmethod
    def make(
        cls,
        entry: PreprocessEntry,
        clip: Clip,
        background: Background,
        region: Region | None,
        *,
        jpeg_quality: int,
        low_quality: bool,
    ) -> Self:
        """Encode a new background.

        Args:
            entry: the job.
            clip: that it was made from.
            background: as it was made.
            region: where the road is; None for the whole picture.
            jpeg_quality: 0 to 100.
            low_quality: it is below what is wanted, and is delivered all the same.
        """
        jpeg = encode_jpeg(background.picture, jpeg_quality)
        meta = {
            "version": VERSION,
            "job_id": entry.job_id,
            "cctv_id": entry.cctv_id,
            "source": {"url": public_url(entry.hls), "seconds": entry.sec},
            "picture": {
                "sha256": hashlib.sha256(jpeg).hexdigest(),
                "bytes": len(jpeg),
                "width": int(background.picture.shape[1]),
                "height": int(background.picture.shape[0]),
            },
            "clip": clip.summary(),
            "background": background.meta,
            "low_quality": low_quality,
            "region": None if region is None else region.as_json(),
            "masks": {
                "encoding": "png;base64",
                "usable": encode_mask(background.usable),
                "source": encode_levels(background.source),
                "source_values": {source.name.lower(): source.value for source in Source},
            },
        }
        document = json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False).encode()
        return cls.read(jpeg, document)

    @classmethod
    def read(cls, jpeg: bytes, document: bytes) -> Self:
        """Read what is stored.

        Raises:
            BadBackgroundError: the two do not belong together, or are no background.
        """
        try:
            meta = json.loads(document)
            told = meta["picture"]
            if meta["version"] != VERSION or told["sha256"] != hashlib.sha256(jpeg).hexdigest():
                raise BadBackgroundError("not the picture that the document describes")
            shape = (int(told["height"]), int(told["width"]))
            usable = decode_mask(meta["masks"]["usable"], shape)
            region = None if meta["region"] is None else Region.parse(meta["region"])
            picture = decode_jpeg(jpeg)
            float(meta["background"]["quality"])
        except (KeyError, TypeError, ValueError, BadMaskError, RegionError) as error:
            raise BadBackgroundError(f"no background: {error}") from error
        if picture.shape[:2] != shape:
            raise BadBackgroundError("the picture has another size than the document says")
        return cls(jpeg, document, meta, picture, usable, region)


def decode_jpeg(jpeg: bytes) -> Image:
    """Return a JPEG as a BGR picture.

    Raises:
        BadBackgroundError: it is none.
    """
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    # OpenCV returns nothing for a picture that it cannot read; its types leave that out.
    if not isinstance(picture, np.ndarray):
        raise BadBackgroundError("the picture cannot be decoded")
    return np.asarray(picture, dtype=np.uint8)
