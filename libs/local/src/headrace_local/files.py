"""Private files, replaced as a whole: a reader sees the old content or the new."""

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace `path` with `text`, readable by its owner only.

    Args:
        path: the file; its directory exists.
        text: the new content.
        durable: reach the disk before returning, for what cannot be made again.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:  # mkstemp made it 0600
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
