"""Files: private ones that are replaced as a whole, and programs that packages bring."""

import os
import tempfile
from importlib import metadata
from pathlib import Path

from headrace_local.errors import LocalStackError


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


def package_file(distribution: str, name: str) -> Path:
    """Return a file that an installed package brings, without importing the package.

    Raises:
        LocalStackError: the package is not installed, or has no file of that name.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise LocalStackError(f"the package {distribution} is not installed") from None
    for file in files:
        if file.name == name:
            return Path(str(file.locate())).resolve()
    raise LocalStackError(f"the package {distribution} has no file {name}")
