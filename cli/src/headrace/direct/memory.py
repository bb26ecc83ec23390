"""What is known of an upload that may have to be resumed: a small file for each."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self
from uuid import uuid4


@dataclass(frozen=True)
class Remembered:
    """An upload under way.

    Attributes:
        idempotency_key: sent when it is opened, so that opening it twice opens it once.
        sha256: hex, of the file.
        job_id: once it is opened.
        etags_are_md5: false where S3 encrypts in a way that says nothing of a part's content.
    """

    idempotency_key: str
    sha256: str
    job_id: str | None = None
    etags_are_md5: bool = True


class Memory:
    """The file in which one upload is remembered.

    The same command finds it again: its name comes from the file's path, size and time of
    change, and from where it goes.
    """

    def __init__(self, path: Path) -> None:
        """Remember in `path`."""
        self.path = path

    @classmethod
    def of(cls, file: Path, *destination: str) -> Self:
        """Return the memory of the upload of `file` to `destination`."""
        status = file.stat()
        words = (str(file.resolve()), str(status.st_size), str(status.st_mtime_ns), *destination)
        name = hashlib.sha256("\0".join(words).encode()).hexdigest()
        return cls(_directory() / f"{name}.json")

    def read(self) -> Remembered | None:
        """Return what is remembered; None if nothing is, or nothing that can be read."""
        try:
            found = json.loads(self.path.read_text())
            known = {field.name for field in fields(Remembered)}
            return Remembered(**{key: value for key, value in found.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def begin(self, *, sha256: str, idempotency_key: str | None) -> Remembered:
        """Remember an upload that is to be opened."""
        return self._write(Remembered(idempotency_key or str(uuid4()), sha256))

    def update(self, remembered: Remembered, **changes: object) -> Remembered:
        """Remember more of it."""
        return self._write(replace(remembered, **changes))  # type: ignore[arg-type]  # by name

    def forget(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)

    def _write(self, remembered: Remembered) -> Remembered:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Whole or not at all: a kill may come at any moment.
        fresh = self.path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(asdict(remembered)))
        fresh.replace(self.path)
        return remembered


def _directory() -> Path:
    """Return the user's directory for such files, after the XDG Base Directory Specification."""
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base or Path.home() / ".local" / "state") / "headrace" / "uploads"
