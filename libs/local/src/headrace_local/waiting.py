"""Waiting for a condition with a deadline, in tests and benchmarks."""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

Seen = TypeVar("Seen")

#: From look to look the pause grows: what comes soon is seen at once, and who waits for long
#: takes no core from what it waits for.
_FIRST_PAUSE_SECONDS: Final = 0.01
_LAST_PAUSE_SECONDS: Final = 0.05
_GROWTH: Final = 1.25


@overload
def wait_until(look: Callable[[], Seen | None], *, seconds: float = 60) -> Seen: ...


@overload
def wait_until(
    look: Callable[[], Seen], right: Callable[[Seen], bool], *, seconds: float = 60
) -> Seen: ...


def wait_until(
    look: Callable[[], Any], right: Callable[[Any], bool] = bool, *, seconds: float = 60
) -> Any:
    """Look again and again until what is seen is right, and return it.

    Args:
        look: how to look.
        right: whether what was seen is what is waited for; by default whether it is true.
        seconds: how long to wait at most; by default for as long as a machine of CI that is busy
            with other tests may take, which costs nothing where it is right before.

    Raises:
        AssertionError: it was not right in time; the message has what was seen last.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while not right(seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still {seen!r}")
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LAST_PAUSE_SECONDS)
    return seen
