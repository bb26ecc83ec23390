"""Runs pictures through a detector in batches, and in smaller ones when memory runs short."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace_gpu_preprocessor.admission import run_smaller

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_batched(
    items: Sequence[Item], infer: Callable[[Sequence[Item]], list[Result]], batch_size: int
) -> list[Result]:
    """Return one result for each item, in order.

    Raises:
        OutOfMemoryError: not even a batch of one fits.
    """
    done: list[Result] = []

    def rest(size: int) -> None:
        # What is done stays done when memory runs short later on.
        while len(done) < len(items):
            done.extend(infer(items[len(done) : len(done) + size]))

    run_smaller(rest, batch=batch_size)
    return done
