"""The training loop: driven by steps, seeded, interruptible at any moment."""

import math
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from road_damage import checkpoint, evaluate
from road_damage.assigner import Assignment, assign_aligned, assign_static
from road_damage.batches import Batch, BatchMaker
from road_damage.checkpoint import Checkpoint
from road_damage.config import EVALUATION_SIZE, TrainConfig
from road_damage.dataset import Sample, fingerprint
from road_damage.ema import MovingAverage
from road_damage.history import Log, Meter
from road_damage.losses import Losses, detection_loss
from road_damage.model import Prediction, RoadDamageDetector

BEST = "best.pt"
LOG_EVERY = 50


def learning_factor(step: int, config: TrainConfig) -> float:
    """Share of the full learning rate: a linear warm-up, a plateau, a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    start = config.steps - config.cooldown_steps
    progress = min(1.0, max(0.0, (step - start) / max(1, config.cooldown_steps)))
    return warm * (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(model: RoadDamageDetector, config: TrainConfig) -> list[dict[str, Any]]:
    """Backbone slower than the rest; no decay on biases and norms, which have one dimension."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": config.learning_rate * (config.backbone_factor if backbone else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (backbone, decayed), parameters in groups.items()
    ]


def assign(prediction: Prediction, batch: Batch, *, static: bool) -> Assignment:
    """Choose what each cell learns in this step."""
    if static:
        return assign_static(prediction.points, prediction.strides, batch.targets)
    return assign_aligned(
        prediction.class_logits.detach().sigmoid(),
        prediction.boxes.detach(),
        prediction.points,
        prediction.strides,
        batch.targets,
    )


def seed_everything(seed: int) -> None:
    """Seed the generators; batches draw from generators of their own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Trainer:
    """One run in one directory. `train` goes on until the last step or until `stop` is called."""

    def __init__(self, config: TrainConfig, samples: list[Sample], directory: Path) -> None:
        seed_everything(config.seed)
        self.config = config
        self.directory = directory
        self.step = 0
        self.seconds = 0.0
        self.best = 0.0
        self._data = fingerprint(samples)
        self.batches = BatchMaker(samples, config)
        self.model = RoadDamageDetector(pretrained=True).to(memory_format=torch.channels_last)
        self.model.backbone.freeze_first_stages()
        self.average = MovingAverage(self.model, config.ema_decay)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, config))
        self._stopped = False

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; raises `ValueError` if it stems from other data."""
        state = checkpoint.load(path)
        if state.data != self._data:
            raise ValueError("the checkpoint was trained on other images or labels")
        self.model.load_state_dict(state.model)
        self.average.model.load_state_dict(state.average)
        self.optimizer.load_state_dict(state.optimizer)
        torch.set_rng_state(state.random)
        self.step, self.seconds, self.best = state.step, state.seconds, state.best

    def save(self) -> Path:
        """Write the checkpoint of the present step."""
        path = self.directory / checkpoint.FILE_NAME
        state = Checkpoint(
            step=self.step,
            config=self.config.as_dict(),
            data=self._data,
            model=self.model.state_dict(),
            average=self.average.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random=torch.get_rng_state(),
            seconds=self.seconds,
            best=self.best,
        )
        checkpoint.save(state, path)
        return path

    def stop(self) -> None:
        """End after the step under way."""
        self._stopped = True

    def train_step(self, batch: Batch) -> Losses:
        """One optimizer step; the model must be in training mode."""
        factor = learning_factor(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        prediction = self.model.predict(batch.images)
        assignment = assign(prediction, batch, static=self.step < self.config.static_steps)
        losses = detection_loss(prediction, assignment)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"gradient is {norm.item()} at step {self.step}")
        self.optimizer.step()
        self.average.update(self.model, self.step)
        self.step += 1
        return Losses(*(part.detach() for part in losses))

    def train(self, valid: list[Sample], log: Log, until: int | None = None) -> bool:
        """Train, validate and save; true when all steps are done, false when stopped before."""
        last = min(self.config.steps, until or self.config.steps)
        self.model.train()
        meter = Meter(self.config.batch)
        saved = time.monotonic()
        for _, batch in self.batches.stream(self.step, last):
            meter.add(self.train_step(batch))
            self.seconds += meter.elapsed()
            if self.step % LOG_EVERY == 0:
                log(meter.summary(self.step, self.seconds))
            if valid and self.step % self.config.validate_every == 0:
                log(self.validate(valid))
                meter.restart()
            if time.monotonic() - saved > self.config.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
            if self._stopped:
                break
        self.save()
        return self.step >= self.config.steps

    def validate(self, valid: list[Sample]) -> dict[str, Any]:
        """Quality of the averaged weights; keeps them if they are the best so far."""
        resized, found = evaluate.run(self.average.model, valid, EVALUATION_SIZE)
        report = evaluate.report(resized, found, EVALUATION_SIZE)
        if report.overall.f1 > self.best:
            self.best = report.overall.f1
            self.directory.mkdir(parents=True, exist_ok=True)
            torch.save(self.average.model.state_dict(), self.directory / BEST)
        return {"kind": "valid", "step": self.step, "seconds": self.seconds, **report.as_dict()}


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the run after the step under way, with a checkpoint."""
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: trainer.stop()) for number in wanted]
    try:
        yield
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)
