"""Moving average of the weights: smoother than the weights that the optimizer left last."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

WARMUP = 10.0
"""The average looks back over a ninth of the steps taken, until its own decay is the shorter."""


class MovingAverage:
    """Keeps an averaged copy of a model, batch-norm statistics included."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Blend in the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (WARMUP + step))
        fresh: Mapping[str, Tensor] = model.state_dict()
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(fresh[name], 1 - decay)
            else:
                value.copy_(fresh[name])
