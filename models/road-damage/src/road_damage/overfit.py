"""The proof of the pipeline: a detector that cannot learn 32 images by heart has a fault."""

import time
from pathlib import Path
from typing import Any

from road_damage import evaluate
from road_damage.config import EVALUATION_SIZE, TrainConfig
from road_damage.dataset import Sample
from road_damage.history import Log
from road_damage.trainer import Trainer

IMAGES = 32
CHECK_EVERY = 50


def overfit_config(steps: int, seed: int) -> TrainConfig:
    """No augmentation, one size, no repeats; both assigners get their turn."""
    return TrainConfig(
        seed=seed,
        steps=steps,
        cooldown_steps=steps // 3,
        small_steps=0,
        static_steps=steps // 4,
        warmup_steps=30,
        sizes=(EVALUATION_SIZE,),
        augment=False,
        repeat_threshold=0.0,
        weight_decay=0.0,
        checkpoint_seconds=float("inf"),
        validate_every=steps + 1,
    )


def spread_choice(samples: list[Sample], count: int) -> list[Sample]:
    """Images with damage, evenly spread over the whole list."""
    damaged = [sample for sample in samples if len(sample.classes)]
    return [damaged[i * len(damaged) // count] for i in range(count)]


def overfit(samples: list[Sample], directory: Path, *, steps: int, seed: int, log: Log) -> bool:
    """Train on a few images until every damage in them is found; true if that was reached."""
    chosen = spread_choice(samples, IMAGES)
    trainer = Trainer(overfit_config(steps, seed), chosen, directory)
    started = time.monotonic()
    while trainer.step < steps:
        trainer.train([], log, until=trainer.step + CHECK_EVERY)
        entry = check(trainer, chosen, seconds=time.monotonic() - started)
        log(entry)
        if entry["recall"] == 1.0:
            return True
    return False


def check(trainer: Trainer, samples: list[Sample], *, seconds: float) -> dict[str, Any]:
    """Quality of the averaged weights on the images trained on, at their best threshold."""
    resized, found = evaluate.run(trainer.average.model, samples, EVALUATION_SIZE)
    report = evaluate.report(resized, found, EVALUATION_SIZE)
    return {
        "kind": "overfit",
        "step": trainer.step,
        "seconds": round(seconds, 1),
        "map50": round(report.map50, 4),
        "threshold": round(report.threshold, 4),
        "precision": report.overall.precision,
        "recall": report.overall.recall,
        "misses": report.overall.misses,
    }
