import pytest
import torch

from road_damage.assigner import (
    CANDIDATES,
    TARGET_FLOOR,
    Targets,
    assign_aligned,
    assign_static,
    reachable,
)
from road_damage.boxes import grid_points
from road_damage.config import CLASS_NAMES, STRIDES

SIDE = 320
POINTS, CELL_STRIDES = grid_points([(SIDE // s, SIDE // s) for s in STRIDES], STRIDES)
CELLS = len(POINTS)


def targets(*rows: tuple[float, float, float, float, int], padding: int = 0) -> Targets:
    count = len(rows) + padding
    boxes, classes = torch.zeros(1, count, 4), torch.zeros(1, count, dtype=torch.int64)
    valid = torch.zeros(1, count, dtype=torch.bool)
    for i, row in enumerate(rows):
        boxes[0, i], classes[0, i], valid[0, i] = torch.tensor(row[:4]), int(row[4]), True
    return Targets(boxes, classes, valid)


def far_predictions() -> torch.Tensor:
    """Boxes of one pixel at every cell: they overlap almost nothing."""
    return torch.cat((POINTS - 0.5, POINTS + 0.5), dim=1)[None]


def scores(value: float = 0.01) -> torch.Tensor:
    return torch.full((1, CELLS, len(CLASS_NAMES)), value)


THIN = [
    (157.0, 10.0, 159.0, 300.0, 0),
    (10.0, 159.5, 300.0, 160.5, 1),
    (100.0, 100.0, 104.0, 104.0, 3),
]


@pytest.mark.parametrize("damage", THIN)
def test_thin_and_small_damages_have_candidates(damage: tuple[float, ...]) -> None:
    wanted = targets(damage)  # type: ignore[arg-type]
    assert reachable(POINTS, CELL_STRIDES, wanted.boxes).sum() > 0
    assert assign_static(POINTS, CELL_STRIDES, wanted).positive.any()


@pytest.mark.parametrize("damage", THIN)
def test_the_best_cell_of_a_thin_damage_has_the_floor_at_least(damage: tuple[float, ...]) -> None:
    wanted = targets(damage)  # type: ignore[arg-type]
    result = assign_aligned(scores(), far_predictions(), POINTS, CELL_STRIDES, wanted)
    assert result.scores.max() >= TARGET_FLOOR - 1e-6
    assert result.scores.max(0).values.max(0).values.argmax() == damage[4]


def test_a_perfect_prediction_is_the_cell_with_the_full_target() -> None:
    wanted = targets((64.0, 64.0, 160.0, 144.0, 2))
    predicted, confidence = far_predictions(), scores()
    cell = int(((POINTS - torch.tensor([112.0, 104.0])).norm(dim=1) + CELL_STRIDES[:, 0]).argmin())
    predicted[0, cell] = wanted.boxes[0, 0]
    confidence[0, cell, 2] = 0.9
    result = assign_aligned(confidence, predicted, POINTS, CELL_STRIDES, wanted)
    assert result.scores[0, cell].tolist() == pytest.approx([0, 0, 1, 0], abs=1e-4)
    assert int(result.scores[0].amax(-1).argmax()) == cell
    torch.testing.assert_close(result.boxes[0, cell], wanted.boxes[0, 0])


@pytest.mark.parametrize("static", [True, False])
def test_each_damage_gets_at_most_the_candidates_and_padding_gets_none(*, static: bool) -> None:
    wanted = targets((20.0, 20.0, 120.0, 100.0, 0), (200.0, 180.0, 310.0, 300.0, 3), padding=3)
    if static:
        result = assign_static(POINTS, CELL_STRIDES, wanted)
    else:
        result = assign_aligned(scores(), far_predictions(), POINTS, CELL_STRIDES, wanted)
    assert 2 <= result.positive.sum() <= 2 * CANDIDATES
    assert set(result.scores[0].sum(0).nonzero()[:, 0].tolist()) == {0, 3}
    assert not result.scores[~result.positive].any()


def test_without_damage_nothing_is_positive() -> None:
    empty = targets(padding=1)
    assert not assign_static(POINTS, CELL_STRIDES, empty).positive.any()
    result = assign_aligned(scores(), far_predictions(), POINTS, CELL_STRIDES, empty)
    assert not result.positive.any()
    assert not result.scores.any()


def test_a_cell_that_two_damages_want_goes_to_one() -> None:
    wanted = targets((100.0, 100.0, 180.0, 180.0, 0), (104.0, 104.0, 184.0, 184.0, 2))
    result = assign_static(POINTS, CELL_STRIDES, wanted)
    assert ((result.scores[0] > 0).sum(-1) <= 1).all()
    assert set(result.scores[0].sum(0).nonzero()[:, 0].tolist()) == {0, 2}


def test_the_static_assigner_chooses_the_level_by_length() -> None:
    wanted = targets((10.0, 10.0, 50.0, 40.0, 3), (10.0, 60.0, 310.0, 110.0, 1))
    result = assign_static(POINTS, CELL_STRIDES, wanted)
    of_class = {c: CELL_STRIDES[result.scores[0, :, c] > 0, 0].unique().tolist() for c in (3, 1)}
    assert of_class == {3: [8.0], 1: [32.0]}


def test_cells_that_cannot_express_a_side_are_left_out() -> None:
    wanted = targets((0.0, 0.0, 320.0, 320.0, 2))
    allowed = reachable(POINTS, CELL_STRIDES, wanted.boxes)[0, 0]
    assert not allowed[CELL_STRIDES[:, 0] == 8].any()
    assert allowed[CELL_STRIDES[:, 0] == 32].all()
