import math

import pytest
import torch

from road_damage.assigner import Assignment, Targets, assign_static
from road_damage.boxes import grid_points
from road_damage.config import CLASS_NAMES, STRIDES
from road_damage.losses import detection_loss, distribution_loss
from road_damage.model import BIN_OFFSET, BINS, Prediction, RoadDamageDetector

SIDE = 128
SURE = 40.0


def test_distribution_loss_of_a_sure_right_answer_is_nought() -> None:
    logits = torch.zeros(1, 4, BINS)
    logits[..., 3] = SURE
    distances = torch.full((1, 4), 3 - BIN_OFFSET)
    assert distribution_loss(logits, distances).abs().max().item() < 1e-4


def test_distribution_loss_between_two_bins_is_least_when_both_share() -> None:
    distances = torch.full((1, 4), 2.5 - BIN_OFFSET)
    shared = torch.full((1, 4, BINS), -SURE)
    shared[..., 2:4] = 0.0
    sure = torch.full((1, 4, BINS), -SURE)
    sure[..., 2] = 0.0
    assert distribution_loss(shared, distances).max().item() == pytest.approx(math.log(2), abs=1e-4)
    assert (distribution_loss(sure, distances) > distribution_loss(shared, distances)).all()


def test_distances_beyond_the_bins_count_as_the_last() -> None:
    logits = torch.zeros(1, 4, BINS)
    logits[..., BINS - 1] = SURE
    assert distribution_loss(logits, torch.full((1, 4), 99.0)).max().item() < 0.1


def encode(boxes: torch.Tensor, points: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
    """Side logits whose expectation is exactly the box, from two neighbouring bins."""
    sides = torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1) / strides
    place = (sides + BIN_OFFSET).clamp(0, BINS - 1.001)
    share = place - place.floor()
    logits = torch.full((*place.shape, BINS), -SURE)
    lower = place.long()[..., None]
    logits.scatter_(-1, lower, (1 - share).clamp(min=1e-9).log()[..., None])
    logits.scatter_(-1, lower + 1, share.clamp(min=1e-9).log()[..., None])
    return logits


def perfect() -> tuple[Prediction, Assignment]:
    points, strides = grid_points([(SIDE // s, SIDE // s) for s in STRIDES], STRIDES)
    damages = torch.tensor([[[20.0, 20.0, 60.0, 50.0], [61.0, 10.0, 63.0, 120.0]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    assignment = assign_static(points, strides, Targets(damages, torch.tensor([[3, 0]]), valid))
    side_logits = encode(assignment.boxes, points, strides)
    boxes = RoadDamageDetector().decode(side_logits, points, strides)
    class_logits = torch.where(assignment.scores > 0, SURE, -SURE)
    return Prediction(class_logits, side_logits, boxes, points, strides), assignment


def test_decoding_gives_back_what_was_encoded_thin_cracks_included() -> None:
    prediction, assignment = perfect()
    where = assignment.positive
    assert where.sum() >= 6
    torch.testing.assert_close(
        prediction.boxes[where], assignment.boxes[where], atol=0.02, rtol=1e-3
    )


def test_a_perfect_prediction_costs_only_the_entropy_of_shared_bins() -> None:
    losses = detection_loss(*perfect())
    assert losses.classes.item() == pytest.approx(0.0, abs=1e-4)
    assert losses.boxes.item() == pytest.approx(0.0, abs=0.02)
    assert losses.distribution.item() <= 0.75 * math.log(2) + 1e-3


def test_each_part_grows_with_its_own_mistake() -> None:
    prediction, assignment = perfect()
    right = detection_loss(prediction, assignment)
    wrong_class = prediction._replace(class_logits=-prediction.class_logits)
    moved = prediction._replace(boxes=prediction.boxes + 15.0)
    uniform = prediction._replace(side_logits=torch.zeros_like(prediction.side_logits))
    assert detection_loss(wrong_class, assignment).classes > right.classes + 1
    assert detection_loss(moved, assignment).boxes > right.boxes + 1
    assert detection_loss(uniform, assignment).distribution > right.distribution + 1


def test_images_without_damage_cost_only_what_is_claimed_in_them() -> None:
    prediction, assignment = perfect()
    empty = Assignment(
        torch.zeros_like(assignment.scores), assignment.boxes, assignment.positive & False
    )
    quiet = prediction._replace(class_logits=torch.full_like(prediction.class_logits, -SURE))
    assert detection_loss(quiet, empty).total.item() == pytest.approx(0.0, abs=1e-4)
    assert detection_loss(prediction, empty).total.item() > 1
    assert prediction.class_logits.shape[-1] == len(CLASS_NAMES)
