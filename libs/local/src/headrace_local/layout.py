"""Where a stack keeps its things."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Names the stack's directory from anywhere.
HOME_VARIABLE: Final = "HEADRACE_HOME"
DIRECTORY_NAME: Final = ".headrace"

_PRIVATE: Final = 0o700
#: PostgreSQL refuses to run as root and runs as another user then, who has to pass through to
#: its data, and can neither list nor read anything on the way.
_PASSABLE: Final = 0o711


def resolve_directory(directory: Path | None = None) -> Path:
    """Return the stack's directory.

    As given, else HEADRACE_HOME, else the nearest `.headrace` with a stack here or above, else
    `.headrace` here.
    """
    if directory is None:
        home = os.environ.get(HOME_VARIABLE)
        directory = Path(home) if home else _nearest(Path.cwd())
    return directory.expanduser().resolve()


def _nearest(start: Path) -> Path:
    candidates = [place / DIRECTORY_NAME for place in (start, *start.parents)]
    made = (place for place in candidates if StackLayout(place).state.exists())
    return next(made, candidates[0])


@dataclass(frozen=True)
class StackLayout:
    """The paths inside a stack's directory, which is absolute."""

    directory: Path

    @property
    def state(self) -> Path:
        """What runs: `state.StackState`."""
        return self.directory / "stack.json"

    @property
    def credentials(self) -> Path:
        """The generated secrets: `credentials.Credentials`."""
        return self.directory / "credentials.json"

    @property
    def lock(self) -> Path:
        """Locked by the one supervisor as long as it lives."""
        return self.directory / "lock"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.directory / "logs"

    def log(self, name: str) -> Path:
        """Return the log file of the process `name`."""
        return self.logs / f"{name}.log"

    def data(self, name: str) -> Path:
        """Return the data directory of the server `name`."""
        return self.directory / "data" / name

    def create(self) -> None:
        """Make the directories, closed to other users."""
        passable = _PASSABLE if os.geteuid() == 0 else _PRIVATE
        for path, mode in (
            (self.directory, passable),
            (self.directory / "data", passable),
            (self.logs, _PRIVATE),
        ):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)

    def create_data(self, name: str) -> Path:
        """Make the data directory of the server `name` and return it."""
        path = self.data(name)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(_PRIVATE)
        return path
