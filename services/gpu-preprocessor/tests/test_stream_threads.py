"""A job's thread: what it leaves behind when the job fails."""

import asyncio
import gc
import traceback
import weakref
from collections.abc import Iterator

import pytest
from stream_harness import Bench, Effects

from headrace_common.contracts.cctv import CctvState
from headrace_common.errors import NotFoundError
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_gpu_preprocessor.stream.threads import Ended, call_in_thread
from headrace_local.waiting import wait_until


class Clip:
    """What a job has in memory."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Only what nobody refers to goes away."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Reader:
    """Fails in a way that keeps the clip: errors behind errors, each caught and kept."""

    def __init__(self) -> None:
        self.clips: list[weakref.ref[Clip]] = []

    def read(self) -> None:
        clip = Clip()
        self.clips.append(weakref.ref(clip))
        try:
            self._fail(clip)
        except ValueError as error:
            kept, behind = error, KeyError("behind")
            behind.__cause__ = kept
            kept.__cause__ = behind  # a ring of causes, as foreign code can make
            raise ExceptionGroup("both", [kept, behind]) from None

    def _fail(self, clip: Clip) -> None:
        raise ValueError("the clip is bad", id(clip))

    def is_gone(self) -> bool:
        return bool(self.clips) and all(clip() is None for clip in self.clips)


@pytest.mark.usefixtures("uncollected")
def test_a_failed_call_keeps_its_lines_and_no_variables() -> None:
    reader = Reader()

    async def fail() -> Ended[None]:
        return await call_in_thread("test", reader.read)

    ended = asyncio.run(fail())
    assert reader.is_gone(), "the error is still there, and its frames' variables are not"
    assert ended.error is not None
    told = "".join(traceback.format_exception(ended.error))
    assert "_fail" in told
    assert 'raise ValueError("the clip is bad"' in told


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("expected", [True, False])
def test_a_failed_job_does_not_keep_its_clip(
    bench: Bench,
    expected: bool,  # noqa: FBT001
) -> None:
    reader = Reader()

    def work(_job: LeasedJob) -> None:
        try:
            reader.read()
        except ExceptionGroup as error:
            if expected:
                raise NotFoundError("no such camera") from error
            raise

    bench.consumer(Effects(work), redis_max_retry=0)
    bench.wait_ended(bench.add(), CctvState.FAILED)
    wait_until(reader.is_gone)
