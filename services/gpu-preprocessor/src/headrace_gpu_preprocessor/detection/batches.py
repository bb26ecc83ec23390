"""Runs pictures through a detector in batches. Here is the seam for memory that runs short."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchRunner(Protocol):
    """Runs items through a function in batches of at most `batch_size`, in order.

    `infer` raises MemoryError (or torch.OutOfMemoryError) if a batch does not fit.
    """

    def __call__(
        self,
        tiles: Sequence[Item],
        infer: Callable[[Sequence[Item]], list[Result]],
        batch_size: int,
        /,
    ) -> list[Result]:
        """Return one result for each item."""


def run_batched(
    tiles: Sequence[Item],
    infer: Callable[[Sequence[Item]], list[Result]],
    batch_size: int,
    /,
) -> list[Result]:
    """Run batches one after the other; memory that runs short goes up to the caller."""
    results: list[Result] = []
    for start in range(0, len(tiles), batch_size):
        results += infer(tiles[start : start + batch_size])
    return results
