import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from road_damage.backbone import Backbone, load_pretrained
from road_damage.config import TrainConfig
from road_damage.dataset import Sample
from road_damage.ema import MovingAverage
from road_damage.export import export, read_safetensors
from road_damage.history import log_to
from road_damage.model import RoadDamageDetector
from road_damage.trainer import Trainer, learning_factor

CONFIG = TrainConfig(
    steps=6,
    cooldown_steps=2,
    small_steps=2,
    static_steps=3,
    warmup_steps=2,
    batch=2,
    small_sizes=(64,),
    sizes=(64, 96),
    validate_every=100,
)


def drawn(name: str) -> Sample:
    """A grey road with one dark crack, different for each name."""
    random = np.random.default_rng(list(name.encode()))
    image = random.integers(90, 140, size=(96, 96, 3)).astype(np.uint8)
    x = int(random.integers(10, 70))
    image[10:80, x : x + 8] = 20
    return Sample(name, image, np.array([[x, 10, x + 8, 80]], np.float32), np.array([0]))


SAMPLES = [drawn(f"image {i}") for i in range(5)]


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """The order of sums depends on the number of threads."""
    torch.set_num_threads(2)


def silent(_entry: dict[str, object]) -> None:
    pass


def test_a_resumed_run_ends_exactly_like_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole = Trainer(CONFIG, SAMPLES, tmp_path / "whole")
    assert whole.train([], silent)
    first = Trainer(CONFIG, SAMPLES, tmp_path / "parts")
    assert not first.train([], silent, until=3)
    torch.rand(7)
    second = Trainer(CONFIG, SAMPLES, tmp_path / "parts")
    second.restore(tmp_path / "parts" / "checkpoint.pt")
    assert second.step == 3
    assert second.train([], silent)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.average.model.state_dict().items():
        assert torch.equal(value, second.average.model.state_dict()[name]), name


def test_another_seed_trains_other_weights(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        trainer = Trainer(replace(CONFIG, seed=seed), SAMPLES, tmp_path / str(seed))
        trainer.train([], silent, until=1)
        runs.append(trainer.model.state_dict()["neck.laterals.0.0.weight"])
    assert not torch.equal(*runs)


def test_stop_ends_after_the_step_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, SAMPLES, tmp_path)
    trainer.stop()
    assert not trainer.train([], silent)
    assert trainer.step == 1
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    Trainer(CONFIG, SAMPLES, tmp_path).save()
    with pytest.raises(ValueError, match="other images"):
        Trainer(CONFIG, SAMPLES[:4], tmp_path).restore(tmp_path / "checkpoint.pt")


def test_frozen_stages_stay_and_the_others_move(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, SAMPLES, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train([], silent, until=2)
    after = trainer.model.state_dict()
    assert torch.equal(before["backbone.stem.weight"], after["backbone.stem.weight"])
    for name in ("backbone.blocks.15.project.weight", "heads.0.sides.weight"):
        assert not torch.equal(before[name], after[name])


def test_validation_reports_and_keeps_the_best(tmp_path: Path) -> None:
    trainer = Trainer(replace(CONFIG, validate_every=2), SAMPLES, tmp_path)
    entries: list[dict[str, object]] = []
    trainer.train(SAMPLES, entries.append, until=2)
    assert [entry["step"] for entry in entries if entry["kind"] == "valid"] == [2]


def test_history_drops_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 50}\n{"step": 100}\n')
    log_to(tmp_path, 50)({"step": 60})
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [50, 60]


def test_learning_rate_warms_up_stays_and_falls_to_nought() -> None:
    config = TrainConfig(steps=1000, cooldown_steps=200, warmup_steps=100)
    assert learning_factor(0, config) == pytest.approx(0.01)
    assert learning_factor(99, config) == learning_factor(800, config) == 1.0
    assert learning_factor(900, config) == pytest.approx(0.5)
    assert learning_factor(1000, config) == pytest.approx(0.0)


def test_moving_average_of_a_constant_model_is_that_model() -> None:
    model = torch.nn.Linear(2, 2)
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    for step in range(200):
        average.update(model, step)
    torch.testing.assert_close(average.model.weight, model.weight, atol=1e-5, rtol=0)


def test_pretrained_features_are_in_the_range_that_folding_must_keep() -> None:
    backbone = Backbone().eval()
    load_pretrained(backbone)
    image = torch.from_numpy(drawn("x").image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        taps = backbone((image - 127) / 128)
    assert [tuple(tap.shape[1:]) for tap in taps] == [(40, 12, 12), (112, 6, 6), (320, 3, 3)]
    for tap in taps:
        assert 0.3 < tap.std().item() < 10


def test_the_exported_models_compute_what_torch_computes(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = RoadDamageDetector(pretrained=True)
    with torch.no_grad():
        for head in model.heads:
            head.classes.weight.normal_(std=1.0)
    differences = export(model.eval(), tmp_path, threshold=0.2, size=320)
    assert differences["boxes"] < 0.05
    assert differences["scores"] < 1e-3
    assert differences["half_scores"] < 0.02
    for exported in tmp_path.iterdir():
        assert str(Path(__file__).parents[1]).encode() not in exported.read_bytes(), exported
    again = RoadDamageDetector()
    again.load_state_dict(read_safetensors(tmp_path / "road-damage.safetensors"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
