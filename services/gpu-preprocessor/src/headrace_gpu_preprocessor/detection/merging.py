"""From what each view shows to one list of damage, each damage once.

Within a class: a box that is another one again goes, whichever view it comes from. A box that
ends at an inner border of its tile may be a piece: pieces that go on in the neighbouring tile are
joined, and a piece that another box has whole goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.detection.detector import Detections
from headrace_gpu_preprocessor.detection.tiling import View

Box = NDArray[np.float64]

#: Two boxes that overlap more than this, as intersection over union, are one damage.
SAME_OVERLAP: Final = 0.5
#: So are two of which one has this share of the other, as intersection over the smaller.
INSIDE_SHARE: Final = 0.7
#: A piece that has this share of its area inside another box is told by that one.
PIECE_SHARE: Final = 0.5
#: Pixels of the view from an inner border within which a box ends at it.
_BORDER_PIXELS: Final = 4.0
#: Two pieces go on in each other if their sides along the border overlap so much.
_SIDE_OVERLAP: Final = 0.4
MAX_DAMAGES: Final = 100


@dataclass(frozen=True)
class Sight:
    """One damage, as one view shows it or as several do together.

    Attributes:
        box: xyxy in pixels of the picture.
        score: 0 to 1.
        label: index of the class.
        cut: whether each side of the box is an inner border of its view.
    """

    box: Box
    score: float
    label: int
    cut: tuple[bool, bool, bool, bool] = (False, False, False, False)


def place(found: Detections, view: View, width: int, height: int) -> list[Sight]:
    """Bring a view's detections into the picture, each damage once.

    Args:
        found: in pixels of the view.
        view: where that is.
        width: of the picture.
        height: of the picture.
    """
    low = np.array([view.left, view.top] * 2, np.float64)
    limits = np.array([0, 0, view.width, view.height], np.float64)
    inner = _inner_borders(view, width, height)
    sights = []
    for box, score, label in zip(found.boxes, found.scores, found.classes, strict=True):
        inside = np.clip(box.astype(np.float64), limits[[0, 1, 0, 1]], limits[[2, 3, 2, 3]])
        if (inside[2:] - inside[:2]).min() < 1:
            continue
        near = np.abs(inside - limits) <= _BORDER_PIXELS
        cut = tuple(bool(side) for side in near & inner)
        moved = np.clip((inside + low) / view.scale, 0, [width, height] * 2)
        sights.append(Sight(moved, float(score), int(label), (cut[0], cut[1], cut[2], cut[3])))
    return _once(sorted(sights, key=_by_score))


def merge(views: Sequence[Sequence[Sight]]) -> list[Sight]:
    """Merge what all views show; highest scores first, at most `MAX_DAMAGES`."""
    sights = _joined([sight for view in views for sight in view])
    # Whole sights stand before pieces, whatever their scores: they say where the damage ends.
    ordered = sorted(sights, key=lambda sight: (any(sight.cut), *_by_score(sight)))
    return sorted(_once(ordered), key=_by_score)[:MAX_DAMAGES]


def _by_score(sight: Sight) -> tuple[float, int, tuple[float, ...]]:
    """Return a key of which no two sights have the same, so that the order is always the same."""
    return -sight.score, sight.label, tuple(sight.box.tolist())


def _inner_borders(view: View, width: int, height: int) -> NDArray[np.bool_]:
    right, bottom = (view.left + view.width) / view.scale, (view.top + view.height) / view.scale
    return np.array([view.left > 0, view.top > 0, right < width - 1, bottom < height - 1])


def _once(ordered: Sequence[Sight]) -> list[Sight]:
    """Leave out what an earlier one tells; the earlier one takes the higher score."""
    kept: list[Sight] = []
    for sight in ordered:
        same = next((i for i, other in enumerate(kept) if _tells(other, sight)), None)
        if same is None:
            kept.append(sight)
        elif kept[same].score < sight.score:
            kept[same] = replace(kept[same], score=sight.score)
    return kept


def _tells(kept: Sight, other: Sight) -> bool:
    """Whether a sight that is kept has another one in it."""
    if kept.label != other.label:
        return False
    shared = _shared(kept.box, other.box)
    if shared == 0:
        return False
    mine, theirs = _area(kept.box), _area(other.box)
    if any(other.cut) and shared / theirs > PIECE_SHARE:
        return True
    return shared / (mine + theirs - shared) > SAME_OVERLAP or (
        shared / min(mine, theirs) > INSIDE_SHARE
    )


def _joined(sights: list[Sight]) -> list[Sight]:
    """Join pieces that go on in each other, until none do."""
    pieces = sorted((sight for sight in sights if any(sight.cut)), key=_by_score)
    whole = [sight for sight in sights if not any(sight.cut)]
    done: list[Sight] = []
    while pieces:
        piece = pieces.pop(0)
        number = next((i for i, other in enumerate(pieces) if _goes_on(piece, other)), None)
        if number is None:
            done.append(piece)
        else:
            pieces.insert(0, _union(piece, pieces.pop(number)))
    return whole + done


def _goes_on(first: Sight, second: Sight) -> bool:
    """Whether one piece is cut where the other one goes on."""
    if first.label != second.label or _shared(first.box, second.box) == 0:
        return False
    for axis in (0, 1):
        for one, other in ((first, second), (second, first)):
            ends = one.cut[axis + 2] and other.cut[axis]
            # Each must reach beyond the other: else one has the other inside it.
            apart = one.box[axis] < other.box[axis] and one.box[axis + 2] < other.box[axis + 2]
            if ends and apart and _side_overlap(one.box, other.box, 1 - axis) >= _SIDE_OVERLAP:
                return True
    return False


def _union(first: Sight, second: Sight) -> Sight:
    box = np.concatenate(
        (np.minimum(first.box[:2], second.box[:2]), np.maximum(first.box[2:], second.box[2:]))
    )
    # A side of the union is cut if the box that it comes from is cut there.
    cut = [
        bool(
            (first.cut[i] and first.box[i] == box[i]) or (second.cut[i] and second.box[i] == box[i])
        )
        for i in range(4)
    ]
    score = max(first.score, second.score)
    return Sight(box, score, first.label, (cut[0], cut[1], cut[2], cut[3]))


def _side_overlap(first: Box, second: Box, axis: int) -> float:
    shared = min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis])
    spanned = max(first[axis + 2], second[axis + 2]) - min(first[axis], second[axis])
    return float(shared / spanned) if spanned > 0 else 0.0


def _shared(first: Box, second: Box) -> float:
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(sides[0] * sides[1]) if sides.min() > 0 else 0.0


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
