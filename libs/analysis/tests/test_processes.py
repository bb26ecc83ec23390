import time
from collections.abc import Iterator

import pytest
from analysis_children import work

from headrace_analysis import AnalysisError, ProcessPool, StopReason, TaskStoppedError

Pool = ProcessPool[tuple[str, float], object]


@pytest.fixture
def pool() -> Iterator[Pool]:
    made: Pool = ProcessPool(work, memory_bytes=2 * 1024**3)
    yield made
    made.close()


def ignore() -> None:
    pass


def test_a_child_is_kept_for_the_next_task(pool: Pool) -> None:
    assert pool.run(("pid", 0), check=ignore) == pool.run(("pid", 0), check=ignore)


def test_errors_come_through_whole(pool: Pool) -> None:
    with pytest.raises(AnalysisError) as caught:
        pool.run(("refuse", 0), check=ignore)
    assert (caught.value.code, caught.value.message, caught.value.retryable) == (
        "refused",
        "No",
        True,
    )
    with pytest.raises(AnalysisError, match="ValueError") as unexpected:
        pool.run(("raise", 0), check=ignore)
    assert "secret" not in str(unexpected.value)


def test_a_task_that_is_stopped_kills_its_child(pool: Pool) -> None:
    first = pool.run(("pid", 0), check=ignore)
    started = time.monotonic()

    def stop() -> None:
        raise TaskStoppedError(StopReason.TIME_LIMIT)

    with pytest.raises(TaskStoppedError):
        pool.run(("sleep", 60), check=stop)
    assert time.monotonic() - started < 30, "its task takes a minute"
    assert pool.run(("pid", 0), check=ignore) != first


def test_a_child_that_dies_costs_one_task_only(pool: Pool) -> None:
    with pytest.raises(AnalysisError, match="analysis_crashed") as caught:
        pool.run(("die", 0), check=ignore)
    assert caught.value.retryable
    assert isinstance(pool.run(("pid", 0), check=ignore), int)


def test_memory_is_limited(pool: Pool) -> None:
    assert pool.run(("memory", 10_000_000), check=ignore) == 10_000_000
    with pytest.raises(AnalysisError, match="out_of_memory"):
        pool.run(("memory", 4 * 1024**3), check=ignore)
