"""Where the model looks, and how one list of damage comes from it. Pure functions."""

from itertools import pairwise
from math import ceil

import numpy as np
import pytest

from headrace_gpu_preprocessor.admission import OutOfMemoryError
from headrace_gpu_preprocessor.detection.batches import run_batched
from headrace_gpu_preprocessor.detection.detector import Detections
from headrace_gpu_preprocessor.detection.merging import Sight, merge, place
from headrace_gpu_preprocessor.detection.tiling import MIN_GAIN, View, cut_out, make_plan

SIDE = 288
EVERYWHERE = np.ones((720, 1280), bool)


def seen_by(plan_tiles: tuple[View, ...], shape: tuple[int, int]) -> np.ndarray:
    seen = np.zeros(shape, int)
    for tile in plan_tiles:
        x1, y1 = tile.left / tile.scale, tile.top / tile.scale
        x2, y2 = x1 + tile.width / tile.scale, y1 + tile.height / tile.scale
        # A scale is within half a pixel of the view's edge.
        seen[int(y1) : ceil(y2), int(x1) : ceil(x2)] += 1
    return seen


@pytest.mark.parametrize(
    "shape", [(720, 1280), (1088, 1920), (576, 768), (1280, 720), (2160, 3840)]
)
@pytest.mark.parametrize("budget", [0.6e6, 0.85e6, 3e6])
def test_tiles_cover_the_picture_and_keep_the_budget(shape: tuple[int, int], budget: float) -> None:
    plan = make_plan(np.ones(shape, bool), SIDE, budget)
    assert plan.pixels <= budget
    assert SIDE in {plan.whole.height, plan.whole.width}
    if plan.tiles:
        assert seen_by(plan.tiles, shape).min() >= 1
        assert {(tile.width, tile.height) for tile in plan.tiles} == {(SIDE, SIDE)}
        assert MIN_GAIN * plan.whole.scale <= plan.tiles[0].scale <= 1


def test_neighbours_overlap_so_that_what_is_cut_in_one_is_whole_in_the_other() -> None:
    tiles = make_plan(EVERYWHERE, SIDE, 0.85e6).tiles
    lefts = sorted({tile.left for tile in tiles})
    assert all(b - a <= 0.86 * SIDE for a, b in pairwise(lefts))


def test_a_small_road_is_seen_closer_and_only_where_it_is() -> None:
    road = np.zeros((720, 1280), bool)
    road[400:, 500:900] = True
    plan, everywhere = (make_plan(mask, SIDE, 0.85e6) for mask in (road, EVERYWHERE))
    assert plan.tiles[0].scale == 1.0 > everywhere.tiles[0].scale
    assert seen_by(plan.tiles, road.shape)[road].min() >= 1
    assert len(plan.tiles) <= 6


def test_tiles_without_road_are_left_out() -> None:
    road = np.eye(10, dtype=bool).repeat(100, 0).repeat(100, 1)
    plan = make_plan(road, SIDE, 2e6)
    assert seen_by(plan.tiles, road.shape)[road].min() >= 1
    assert seen_by(plan.tiles, road.shape).min() == 0


@pytest.mark.parametrize("shape", [(448, 448), (200, 300), (288, 500)])
def test_a_small_picture_is_seen_once_and_never_enlarged(shape: tuple[int, int]) -> None:
    plan = make_plan(np.ones(shape, bool), SIDE, 5e6)
    assert plan.tiles == ()
    assert plan.whole.scale <= 1


def test_no_road_no_tiles() -> None:
    assert make_plan(~EVERYWHERE, SIDE, 1e6).tiles == ()


def test_a_model_of_one_size_sees_the_whole_picture_within_it() -> None:
    plan = make_plan(EVERYWHERE, 640, 9e6, square=True)
    assert (plan.whole.width, plan.whole.height) == (640, 360)
    assert all(tile.width <= 640 and tile.height <= 640 for tile in plan.tiles)


def test_views_show_what_the_plan_says() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    plan = make_plan(EVERYWHERE, SIDE, 0.85e6)
    (whole,), tiles = cut_out(picture, plan)
    assert whole.shape == (SIDE, 512, 3)
    assert [tile.shape for tile in tiles] == [(SIDE, SIDE, 3)] * len(plan.tiles)


# Merging: a picture of 400 x 400, tiles of 220 with 40 in common.
LEFT = View(0, 0, 220, 400, 1.0)
RIGHT = View(180, 0, 220, 400, 1.0)
WHOLE = View(0, 0, 200, 200, 0.5, whole=True)


def found(
    view: View, *boxes: tuple[float, float, float, float, float], label: int = 0
) -> list[Sight]:
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    detections = Detections(rows[:, :4], rows[:, 4], np.full(len(rows), label, np.int64))
    return place(detections, view, 400, 400)


def boxes_of(sights: list[Sight]) -> list[tuple[float, ...]]:
    return [tuple(sight.box.tolist()) for sight in sights]


def test_boxes_come_back_into_the_picture() -> None:
    assert boxes_of(found(WHOLE, (10, 20, 30, 40, 0.9))) == [(20, 40, 60, 80)]
    assert boxes_of(found(RIGHT, (10, 20, 30, 40, 0.9))) == [(190, 20, 210, 40)]
    # Beyond the view there is nothing.
    assert boxes_of(found(LEFT, (-50, -5, 30, 40, 0.9))) == [(0, 0, 30, 40)]
    assert found(LEFT, (-50, -5, -1, 40, 0.9)) == []


def test_one_damage_seen_by_three_views_is_one_with_the_best_box() -> None:
    merged = merge(
        [
            found(WHOLE, (95, 50, 103, 80, 0.5)),
            found(LEFT, (190, 100, 206, 160, 0.9)),
            found(RIGHT, (11, 101, 26, 160, 0.7)),
        ]
    )
    assert boxes_of(merged) == [(190, 100, 206, 160)]
    assert merged[0].score == pytest.approx(0.9)


def test_other_classes_do_not_hide_one_another() -> None:
    merged = merge(
        [found(LEFT, (50, 50, 90, 90, 0.9)), found(LEFT, (50, 50, 90, 90, 0.8), label=1)]
    )
    assert [sight.label for sight in merged] == [0, 1]


def test_pieces_of_a_crack_that_goes_on_in_the_next_tile_are_joined() -> None:
    merged = merge([found(LEFT, (100, 100, 219, 120, 0.8)), found(RIGHT, (1, 102, 120, 121, 0.6))])
    assert boxes_of(merged) == [(100, 100, 300, 121)]
    assert merged[0].score == pytest.approx(0.8)


def test_a_crack_over_three_tiles_is_joined_whatever_the_order() -> None:
    tiles = [View(left, 0, 160, 400, 1.0) for left in (0, 120, 240)]
    views = [
        found(tiles[0], (40, 50, 160, 60, 0.5)),
        found(tiles[1], (0, 50, 160, 60, 0.9)),
        found(tiles[2], (0, 50, 100, 60, 0.7)),
    ]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        assert boxes_of(merge([views[i] for i in order])) == [(40, 50, 340, 60)]


def test_a_piece_goes_where_another_view_has_the_whole() -> None:
    merged = merge(
        [
            found(WHOLE, (50, 40, 150, 60, 0.4)),
            found(LEFT, (104, 81, 220, 119, 0.95)),
        ]
    )
    # The whole sight says where it ends, the piece how sure the model is.
    assert boxes_of(merged) == [(100, 80, 300, 120)]
    assert merged[0].score == pytest.approx(0.95)


def test_neighbours_that_do_not_go_on_in_each_other_stay_two() -> None:
    merged = merge([found(LEFT, (100, 100, 219, 120, 0.8)), found(RIGHT, (1, 220, 120, 240, 0.6))])
    assert len(merged) == 2


def test_the_order_of_views_changes_nothing() -> None:
    random = np.random.default_rng(5)
    views = []
    for view in (LEFT, RIGHT, WHOLE):
        corners = random.uniform(0, 150, (12, 2))
        sides = random.uniform(10, 60, (12, 2))
        rows = np.hstack((corners, corners + sides, random.uniform(0.3, 1, (12, 1))))
        views.append(found(view, *[tuple(row) for row in rows]))
    first = merge(views)
    assert 0 < len(first) <= 36
    assert boxes_of(merge(views[::-1])) == boxes_of(first)


def test_batches_are_halved_when_memory_runs_short_and_nothing_is_done_twice() -> None:
    sizes: list[int] = []
    done: list[int] = []

    def infer(items: object) -> list[int]:
        assert isinstance(items, list)
        sizes.append(len(items))
        if len(items) > 2 and sizes.count(8) > 1:
            raise MemoryError("out of memory")
        done.extend(items)
        return [item * 10 for item in items]

    assert run_batched(list(range(20)), infer, 8) == [item * 10 for item in range(20)]
    assert done == list(range(20))
    assert sizes[:5] == [8, 8, 4, 2, 2]


def test_a_tile_that_never_fits_can_be_tried_later() -> None:
    def infer(items: object) -> list[int]:
        raise MemoryError

    with pytest.raises(OutOfMemoryError) as caught:
        run_batched([1], infer, 4)
    assert caught.value.retryable
