"""How a file is cut into parts, and which of them S3 has: decisions that need no server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace_ingest_api.settings import S3_MAX_PARTS


@dataclass(frozen=True)
class Layout:
    """A file of `size` bytes in parts of `part_bytes`, the last of which may be shorter."""

    size: int
    part_bytes: int

    @classmethod
    def of(cls, size: int, *, part_bytes: int) -> "Layout":
        """Cut a file into parts of `part_bytes`, or larger ones where S3 takes no more."""
        return cls(size, max(part_bytes, -(-size // S3_MAX_PARTS)))

    @property
    def count(self) -> int:
        """Number of parts."""
        return -(-self.size // self.part_bytes)

    def bytes_of(self, number: int) -> int:
        """Return the bytes of a part; the first is number 1."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)

    def has(self, number: int) -> bool:
        """Whether there is such a part."""
        return 1 <= number <= self.count


@dataclass(frozen=True)
class StoredPart:
    """A part that S3 has; the ETag is the hex MD5 of its bytes, unless S3 encrypts by KMS."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True)
class Comparison:
    """What S3 has of a file.

    Attributes:
        parts: those that are right, by number and in order.
        missing: numbers of those that S3 has not.
        wrong: numbers of those of another size, or with other content than the client says.
    """

    parts: dict[int, StoredPart]
    missing: list[int]
    wrong: list[int]


def compare(layout: Layout, stored: Sequence[StoredPart], claimed: Mapping[int, str]) -> Comparison:
    """Compare what S3 lists with what the file should be.

    Args:
        layout: of the file.
        stored: what S3 lists, older first. A server may list a part that was sent twice twice
            (SeaweedFS does); the last one that is right counts.
        claimed: ETags by number that the client says its parts have.
    """
    by_number: dict[int, list[StoredPart]] = {}
    for part in stored:
        by_number.setdefault(part.number, []).append(part)
    found = Comparison({}, [], [])
    for number in range(1, layout.count + 1):
        candidates = by_number.get(number)
        if not candidates:
            found.missing.append(number)
            continue
        right = [
            part
            for part in candidates
            if part.size == layout.bytes_of(number) and part.etag == claimed.get(number, part.etag)
        ]
        if right:
            found.parts[number] = right[-1]
        else:
            found.wrong.append(number)
    return found
