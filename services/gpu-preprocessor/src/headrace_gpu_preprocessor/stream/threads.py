"""A thread for each job, awaited from the event loop."""

import asyncio
import contextlib
import contextvars
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ended(Generic[Answer]):
    """How a call ended: with an answer, or by raising.

    The error keeps its traceback without the variables of its frames.
    """

    answer: Answer | None
    error: BaseException | None


def call_in_thread(name: str, call: Callable[[], Answer]) -> "asyncio.Future[Ended[Answer]]":
    """Run `call` in a thread of its own, with this context's variables.

    A daemon thread and no pool's: one that hangs in foreign code must not keep the process from
    ending, nor another job from starting.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Ended[Answer]] = loop.create_future()

    def tell(ended: Ended[Answer]) -> None:
        if not future.done():
            future.set_result(ended)

    def run() -> None:
        ended: Ended[Answer]
        try:
            ended = Ended(call(), None)
        except BaseException as error:  # noqa: BLE001 - it is looked at by whoever awaits
            _let_go(error)
            ended = Ended(None, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits
            loop.call_soon_threadsafe(tell, ended)
        # The error's traceback has this very frame, which would keep the error.
        del ended

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    return future


def _let_go(error: BaseException) -> None:
    """Drop the variables of every frame that an error, or one behind it, went through.

    A frame that has caught an error and keeps it is a ring: error, traceback, frame, error. Only
    the garbage collector breaks it, some time later, and until then a failed job's whole clip
    would stay in memory beside the next one's. The lines stay, for the log.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
