"""Running heavy analysis in child processes that can be killed.

For handlers whose native code holds the interpreter's lock: Praat's does for the whole of a call
(measured: 14 s for one pitch analysis of 75 s of sound), and no other thread, the
heartbeat's included, would run. A child can also be killed at the time limit,
and its memory can be limited, so that a hostile file costs one task only.
"""

import contextlib
import multiprocessing
import resource
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic, TypeVar

import structlog

from headrace_analysis.errors import AnalysisError

log = structlog.get_logger()

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")

#: How often the caller's `check` is asked while a child works.
_CHECK_SECONDS: Final = 0.2
_EXIT_SECONDS: Final = 2.0
_SPAWN: Final = multiprocessing.get_context("spawn")


class _Child:
    """One process and the pipe to it."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int | None) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process: SpawnProcess = _SPAWN.Process(
            target=_serve, args=(theirs, function, memory_bytes), name="analysis", daemon=True
        )
        self.process.start()
        theirs.close()

    def end(self, *, kill: bool) -> None:
        """End the process: at once, or when it sees that the pipe is closed."""
        self.pipe.close()
        if kill:
            self.process.kill()
        self.process.join(_EXIT_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class ProcessPool(Generic[Argument, Answer]):
    """Runs one function in child processes, each used by one thread at a time.

    Children are started when first needed, kept for the next task, and replaced when they were
    killed or died. They end by themselves when this process does.
    """

    def __init__(
        self, function: Callable[[Argument], Answer], *, memory_bytes: int | None = None
    ) -> None:
        """Make the pool.

        Args:
            function: of module level; argument, answer and AnalysisErrors cross by pickle.
            memory_bytes: address space that a child may use.
        """
        self._function = function
        self._memory = memory_bytes
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def run(self, argument: Argument, *, check: Callable[[], None]) -> Answer:
        """Run the function on `argument` in a child.

        Args:
            argument: what it gets.
            check: called several times a second; what it raises kills the child and is raised.

        Raises:
            AnalysisError: as the function raised it; or `analysis_crashed`, retryable, where
                the child died or raised something else.
        """
        child = self._take()
        reusable = False
        try:
            child.pipe.send(argument)
            while not child.pipe.poll(_CHECK_SECONDS):
                check()
            ok, answer = child.pipe.recv()
            reusable = True
        except (EOFError, OSError) as error:
            raise AnalysisError(
                "analysis_crashed", "The analysis crashed or ran out of memory", retryable=True
            ) from error
        finally:
            self._give_back(child, reusable=reusable)
        if ok:
            result: Answer = answer
            return result
        raise answer

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            children, self._idle = self._idle, []
        for child in children:
            child.end(kill=False)

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.process.is_alive():
                    return child
                child.end(kill=True)
        return _Child(self._function, self._memory)

    def _give_back(self, child: _Child, *, reusable: bool) -> None:
        if not reusable:
            child.end(kill=True)
            return
        with self._lock:
            self._idle.append(child)


def _serve(
    pipe: Connection, function: Callable[[Any], Any], memory_bytes: int | None
) -> None:  # pragma: no cover - runs in the child
    """Answer calls until the pipe ends."""
    # Ctrl-C reaches the whole group; the parent decides when its children end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(_call(function, pipe.recv()))


def _call(function: Callable[[Any], Any], argument: Any) -> tuple[bool, Any]:
    try:
        return True, function(argument)
    except AnalysisError as error:
        return False, error
    except MemoryError:
        return False, AnalysisError(
            "analysis_out_of_memory", "The analysis ran out of memory", retryable=True
        )
    except Exception as error:  # noqa: BLE001 - crosses to the parent as what it is: a crash
        text = f"The analysis failed unexpectedly ({type(error).__name__})"
        return False, AnalysisError("internal_error", text, retryable=True)
