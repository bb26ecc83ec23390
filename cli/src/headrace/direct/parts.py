"""The parts of a local file: read, and hashed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class FileParts:
    """A file in parts of `part_bytes`, which several threads may read."""

    path: Path
    size: int
    part_bytes: int

    @property
    def count(self) -> int:
        """Number of parts."""
        return -(-self.size // self.part_bytes)

    def bytes_of(self, number: int) -> int:
        """Return the bytes of a part; the first is number 1."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)

    def read(self, number: int) -> bytes:
        """Read a part."""
        with self.path.open("rb") as file:
            file.seek((number - 1) * self.part_bytes)
            return file.read(self.bytes_of(number))


def sha256_of(path: Path, advance: Callable[[int], None]) -> str:
    """Return the hex SHA-256 of a file, telling `advance` of each piece's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()


def md5_of(content: bytes) -> str:
    """Return the hex MD5 by which S3 checks a part."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
