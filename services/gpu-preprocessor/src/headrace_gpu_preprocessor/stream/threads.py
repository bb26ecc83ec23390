"""A thread for each job, awaited from the event loop."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ended(Generic[Answer]):
    """How a call ended: with an answer, or by raising."""

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
            ended = Ended(None, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits
            loop.call_soon_threadsafe(tell, ended)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    return future
