"""Where two JSON results differ: a pure comparison, for the answers to copies of jobs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

#: Differences that are listed; whoever has more has something else to look at than each of them.
MAX_LISTED: Final = 20
#: Characters of a value that is shown.
_MAX_SHOWN: Final = 200

#: Stands for a value that one side does not have.
_ABSENT: Final = object()


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What counts as the same.

    Attributes:
        relative: of numbers, to the larger of the two.
        absolute: of numbers near zero.
        ignored: names of members that differ from run to run, such as durations.
    """

    relative: float = 1e-6
    absolute: float = 1e-9
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Difference:
    """One value that is not the same on both sides.

    Attributes:
        pointer: JSON pointer (RFC 6901) to it; empty for the whole.
        own: what the job's own answer says, cut; None where it says nothing.
        shadow: the same of the copy.
    """

    pointer: str
    own: str | None
    shadow: str | None


def differences(
    own: JsonValue, shadow: JsonValue, tolerance: Tolerance, *, pointer: str = ""
) -> Iterator[Difference]:
    """Yield what differs, in the order of `own`."""
    if isinstance(own, dict) and isinstance(shadow, dict):
        for key in [*own, *(key for key in shadow if key not in own)]:
            if key not in tolerance.ignored:
                yield from _pair(own, shadow, key, tolerance, f"{pointer}/{_escaped(key)}")
    elif isinstance(own, list) and isinstance(shadow, list):
        if len(own) != len(shadow):
            yield Difference(pointer, f"{len(own)} items", f"{len(shadow)} items")
            return
        for index, (left, right) in enumerate(zip(own, shadow, strict=True)):
            yield from differences(left, right, tolerance, pointer=f"{pointer}/{index}")
    elif not _same(own, shadow, tolerance):
        yield Difference(pointer, _shown(own), _shown(shadow))


def _pair(
    own: dict[str, JsonValue],
    shadow: dict[str, JsonValue],
    key: str,
    tolerance: Tolerance,
    pointer: str,
) -> Iterator[Difference]:
    left, right = own.get(key, _ABSENT), shadow.get(key, _ABSENT)
    if left is _ABSENT or right is _ABSENT:
        yield Difference(
            pointer,
            None if left is _ABSENT else _shown(left),
            None if right is _ABSENT else _shown(right),
        )
    else:
        yield from differences(own[key], shadow[key], tolerance, pointer=pointer)


def _same(own: JsonValue, shadow: JsonValue, tolerance: Tolerance) -> bool:
    if _is_number(own) and _is_number(shadow):
        assert isinstance(own, int | float)  # noqa: S101 - for the type checker
        assert isinstance(shadow, int | float)  # noqa: S101 - likewise
        return math.isclose(own, shadow, rel_tol=tolerance.relative, abs_tol=tolerance.absolute)
    return type(own) is type(shadow) and own == shadow


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
