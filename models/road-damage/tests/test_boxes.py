import pytest
import torch

from road_damage import boxes


def box(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (0, 0, 5, 5), 0.25),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((8, 0, 2, 10), (0, 0, 10, 10), 0.0),
    ],
)
def test_iou_of_known_pairs(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert boxes.iou(box(*first), box(*second)).item() == pytest.approx(expected, abs=1e-5)


def test_iou_matrix_has_a_row_for_each_first_box() -> None:
    first = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 5, 5]])
    second = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 40]])
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.25, 0.0]])
    torch.testing.assert_close(boxes.iou_matrix(first, second), expected, atol=1e-5, rtol=0)


def test_complete_iou_of_equal_boxes_is_one() -> None:
    value = boxes.complete_iou(box(3, 4, 30, 9), box(3, 4, 30, 9))
    assert value.item() == pytest.approx(1.0, abs=1e-4)


def test_complete_iou_takes_off_the_distance_of_the_centres() -> None:
    # No overlap, same shape: -(10^2) / (20^2 + 10^2), the outer box is 20 by 10.
    value = boxes.complete_iou(box(0, 0, 10, 10), box(10, 0, 20, 10))
    assert value.item() == pytest.approx(-0.2, abs=1e-4)


def test_complete_iou_prefers_the_right_shape_at_equal_overlap() -> None:
    target = box(0, 0, 40, 10)
    wide, narrow = box(0, 0, 20, 5), box(10, 0, 20, 10)
    assert boxes.iou(wide, target).item() == pytest.approx(boxes.iou(narrow, target).item())
    assert boxes.complete_iou(wide, target) - boxes.complete_iou(narrow, target) > -0.1
    same_centre_wide = box(10, 2.5, 30, 7.5)
    same_centre_tall = box(15, 0, 25, 10)
    assert boxes.complete_iou(same_centre_wide, target) > boxes.complete_iou(
        same_centre_tall, target
    )


def test_boxes_that_do_not_touch_still_have_a_gradient_towards_the_target() -> None:
    predicted = box(0, 0, 10, 10).requires_grad_()
    boxes.complete_iou(predicted, box(50, 0, 60, 10)).sum().backward()
    assert predicted.grad is not None
    assert (predicted.grad[0, 0] + predicted.grad[0, 2]).item() > 0


def test_grid_points_are_cell_centres_row_by_row() -> None:
    points, strides = boxes.grid_points([(2, 3), (1, 1)], (8, 32))
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [16, 16]]
    assert strides[:, 0].tolist() == [8] * 6 + [32]
