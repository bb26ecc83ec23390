"""Training batches as a pure function of the step, made one step ahead by a thread.

Because nothing depends on what was drawn before, a resumed run sees exactly what an
uninterrupted one would have seen.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from road_damage import augment
from road_damage.assigner import Targets
from road_damage.config import TrainConfig
from road_damage.dataset import EpochOrder, Sample

MOSAIC_OTHERS = 3


class Batch(NamedTuple):
    """One optimizer step's input: images (B, 3, S, S), RGB from 0 to 255, and their damages."""

    images: Tensor
    targets: Targets


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one size; their damages are padded to the largest count."""
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    count = max(1, *(len(sample.classes) for sample in samples))
    boxes = torch.zeros(len(samples), count, 4)
    classes = torch.zeros(len(samples), count, dtype=torch.int64)
    valid = torch.zeros(len(samples), count, dtype=torch.bool)
    for row, sample in enumerate(samples):
        size = len(sample.classes)
        boxes[row, :size] = torch.from_numpy(sample.boxes)
        classes[row, :size] = torch.from_numpy(sample.classes)
        valid[row, :size] = True
    pixels = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    return Batch(pixels, Targets(boxes, classes, valid))


class BatchMaker:
    """Makes the batch of any step from the samples in memory."""

    def __init__(self, samples: list[Sample], config: TrainConfig) -> None:
        self._samples = samples
        self._config = config
        self._order = EpochOrder.build(samples, threshold=config.repeat_threshold, seed=config.seed)

    @property
    def images_per_epoch(self) -> int:
        """Images of one epoch, repeats included."""
        return len(self._order.indices)

    def make(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        config = self._config
        random = np.random.default_rng([config.seed, step])
        sizes = config.small_sizes if step < config.small_steps else config.sizes
        side = int(random.choice(sizes))
        chosen = [self._samples[i] for i in self._order.batch(step, config.batch)]
        if not config.augment:
            return collate([augment.letterbox(sample, side) for sample in chosen])
        mosaic_share = config.mosaic if step < config.steps - config.cooldown_steps else 0.0
        return collate([self._view(s, side, mosaic_share, random) for s in chosen])

    def _view(
        self, sample: Sample, side: int, mosaic_share: float, random: np.random.Generator
    ) -> Sample:
        others: list[Sample] = []
        if random.random() < mosaic_share:
            drawn = random.integers(len(self._samples), size=MOSAIC_OTHERS)
            others = [self._samples[i] for i in drawn]
        return augment.augmented(sample, others, side, random)

    def stream(self, first: int, last: int) -> Iterator[tuple[int, Batch]]:
        """Batches of the steps from `first` to before `last`; the next is made meanwhile."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            ahead = pool.submit(self.make, first)
            for step in range(first, last):
                batch = ahead.result()
                if step + 1 < last:
                    ahead = pool.submit(self.make, step + 1)
                yield step, batch
