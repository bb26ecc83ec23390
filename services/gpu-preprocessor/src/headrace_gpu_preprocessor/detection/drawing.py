"""Draws `damage_result.jpg`: what was found, readable at a glance at any size.

Boxes are coloured by class. What the picture does not show as it is (traffic that never left) is
hatched, what lies outside the road is darker, and a line below says what came of it.
"""

from collections import Counter
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.detection.analysis import Damage, DamageAnalysis
from headrace_gpu_preprocessor.detection.detector import Image
from headrace_gpu_preprocessor.detection.labels import title_of

Mask = NDArray[np.bool_]

JPEG_QUALITY: Final = 90
#: Smaller pictures are enlarged, so that a label has room beside its damage.
_MIN_WIDTH: Final = 640
#: Height of letters as a share of the picture's shorter side, and its limits in pixels.
_FONT_SHARE: Final = 1 / 40
_FONT_PIXELS: Final = (13, 48)
#: Colours that differ in light too, for those who see few colours; by index of the class.
_PALETTE: Final = ("#FFC20A", "#40B0FF", "#FF5C8A", "#B98CFF", "#5CE08A", "#FF8C42", "#E8E8E8")
_OUTSIDE_LIGHT: Final = 0.55
_OUTLINE: Final = (255, 255, 255)
_HATCH: Final = (40, 40, 40)
_BAR: Final = (28, 28, 28)
_MAX_LABELS: Final = 40


def draw(
    picture: Image,
    analysis: DamageAnalysis,
    *,
    usable_mask: Mask | None = None,
    region_mask: Mask | None = None,
) -> Image:
    """Draw an analysis.

    Args:
        picture: that was analysed, BGR; it is left as it is.
        analysis: of it.
        usable_mask: as it was analysed with.
        region_mask: as it was analysed with.

    Returns:
        A new picture: as wide, or wider if it was very small, with the summary line below.
    """
    scale = max(1.0, _MIN_WIDTH / picture.shape[1])
    scene = _enlarged(picture, scale, cv2.INTER_CUBIC)
    font = int(np.clip(min(scene.shape[:2]) * _FONT_SHARE, *_FONT_PIXELS))
    if usable_mask is not None:
        _hatch(scene, ~_scaled(usable_mask, scene), font)
    if region_mask is not None:
        _outline(scene, _scaled(region_mask, scene), font)
    if analysis.damages:
        scene = _boxes(scene, analysis, scale, font)
    return _with_summary(scene, summary(analysis), font)


def preload() -> None:
    """Import what drawing needs, so that the first job does not wait seconds for it."""
    import supervision  # noqa: F401, PLC0415


def encode_jpeg(picture: Image, quality: int = JPEG_QUALITY) -> bytes:
    """Return a picture as JPEG; the same bytes for the same pixels.

    Raises:
        ValueError: OpenCV cannot encode it.
    """
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {picture.shape} cannot be encoded")
    return encoded.tobytes()


def summary(analysis: DamageAnalysis) -> str:
    """Say in one line what was found."""
    masked = f" - {analysis.masked_share:.0%} of the road not seen"
    tail = masked if analysis.masked_share >= 0.005 else ""
    worst = analysis.worst_severity
    if worst is None:
        return f"No damage found{tail}"
    count = len(analysis.damages)
    kinds = Counter(damage.label for damage in analysis.damages)
    parts = ", ".join(f"{number} x {title_of(label).lower()}" for label, number in kinds.items())
    noun = "damage" if count == 1 else "damages"
    share = f"{analysis.damaged_share:.1%} of the road"
    return f"{count} {noun}, worst: {worst} - {parts} - {share}{tail}"


def _enlarged(picture: Image, scale: float, interpolation: int) -> Image:
    if scale == 1.0:
        return picture.copy()
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), dtype=np.uint8)


def _scaled(mask: Mask, scene: Image) -> Mask:
    size = (scene.shape[1], scene.shape[0])
    scaled = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled, dtype=bool)


def _hatch(scene: Image, hidden: Mask, font: int) -> None:
    """Draw slanting lines over what is not to be judged."""
    rows, columns = np.ogrid[: scene.shape[0], : scene.shape[1]]
    lines = ((rows + columns) // max(2, font // 4)) % 4 == 0
    where = hidden & lines
    scene[where] = (scene[where] // 3 + np.array(_HATCH) * 2 // 3).astype(np.uint8)


def _outline(scene: Image, region: Mask, font: int) -> None:
    """Darken what is not road, and draw the border."""
    scene[~region] = (scene[~region] * _OUTSIDE_LIGHT).astype(np.uint8)
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(scene, contours, -1, _OUTLINE, max(1, font // 10), cv2.LINE_AA)


def _boxes(scene: Image, analysis: DamageAnalysis, scale: float, font: int) -> Image:
    import supervision as sv  # noqa: PLC0415 - takes 1.4 s

    labels = list(analysis.model.labels)
    palette = sv.ColorPalette.from_hex(list(_PALETTE))
    thickness = max(2, font // 7)
    found = _detections(sv, analysis.damages, labels, scale)
    boxed = sv.BoxAnnotator(palette, thickness).annotate(scene, found)
    # More labels than these would hide the road; every box is drawn.
    named = analysis.damages[:_MAX_LABELS]
    annotator = sv.RichLabelAnnotator(
        palette,
        text_color=sv.Color.BLACK,
        font_size=font,
        text_padding=max(2, font // 4),
        smart_position=True,
    )
    drawn = annotator.annotate(
        boxed, _detections(sv, named, labels, scale), [_label(damage) for damage in named]
    )
    return np.asarray(drawn, dtype=np.uint8)


def _detections(sv: Any, damages: tuple[Damage, ...], labels: list[str], scale: float) -> Any:
    return sv.Detections(
        xyxy=np.array([damage.xyxy for damage in damages], np.float32) * scale,
        confidence=np.array([damage.score for damage in damages], np.float32),
        class_id=np.array([labels.index(damage.label) for damage in damages]),
    )


def _label(damage: Damage) -> str:
    return f"{damage.title} {damage.score:.2f} {damage.severity}"


def _with_summary(scene: Image, text: str, font: int) -> Image:
    from PIL import Image as Pictures  # noqa: PLC0415 - comes with supervision, and is slow too
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415

    padding = font // 2
    letters = ImageFont.load_default(font)
    room = scene.shape[1] - 2 * padding
    lines = _wrapped(text, letters, room)
    line_height = round(font * 1.35)
    bar = np.full((2 * padding + line_height * len(lines), scene.shape[1], 3), _BAR, np.uint8)
    canvas = Pictures.fromarray(bar)
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        pen.text((padding, padding + number * line_height), line, fill=_OUTLINE, font=letters)
    return np.concatenate((scene, np.asarray(canvas, dtype=np.uint8)))


def _wrapped(text: str, letters: Any, room: int) -> list[str]:
    """Break a line between words where it gets too long."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
