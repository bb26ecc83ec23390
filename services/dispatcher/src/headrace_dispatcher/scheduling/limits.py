"""How many firings of a target may be open at once: pure decisions."""

from collections import Counter
from collections.abc import Iterable, Mapping


class Slots:
    """The places that are left. A limit counts a contract by its name, or one target by its key."""

    def __init__(self, limits: Mapping[str, int], taken: Iterable[tuple[str, str, int]]) -> None:
        """Make it.

        Args:
            limits: most that may be open, by name of a contract or key of a target.
            taken: name, key and number of what is open.
        """
        self._left = Counter(limits)
        for target, key, count in taken:
            for name in {target, key}:
                if name in self._left:
                    self._left[name] -= count

    def full(self) -> list[str]:
        """Return the names and keys that have no place left."""
        return sorted(name for name, left in self._left.items() if left <= 0)

    def take(self, target: str, key: str) -> bool:
        """Take a place, if every limit that counts leaves one."""
        counted = [name for name in {target, key} if name in self._left]
        if any(self._left[name] <= 0 for name in counted):
            return False
        for name in counted:
            self._left[name] -= 1
        return True
