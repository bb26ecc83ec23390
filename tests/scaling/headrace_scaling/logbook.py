"""What replicas wrote into their logs, which is who did what."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from headrace_scaling.doings import Doing

Fields = Mapping[str, Any]


@dataclass
class Logbook:
    """The logs of a stack, from a point on.

    Attributes:
        directory: of the log files, one for each process.
    """

    directory: Path
    _begin: dict[str, int] = field(default_factory=dict)

    def mark(self) -> None:
        """Leave out what was written until now."""
        self._begin = {path.stem: path.stat().st_size for path in self.directory.glob("*.log")}

    def events(self, replica: str, event: str) -> Iterator[Fields]:
        """Yield the fields of a replica's events of that name."""
        path = self.directory / f"{replica}.log"
        if not path.exists():
            return
        wanted = f'"event": "{event}"'.encode()
        with path.open("rb") as file:
            file.seek(self._begin.get(replica, 0))
            for line in file:
                # The last line may be half written; whoever looks again finds it whole.
                if wanted in line and line.endswith(b"}\n"):
                    yield json.loads(line)

    def doings(
        self, replicas: Sequence[str], event: str, item: Callable[[Fields], str | None]
    ) -> list[Doing]:
        """Return what replicas did, as events of that name tell.

        Args:
            replicas: names of those that are looked at.
            event: what is logged when a piece of work is done.
            item: returns which piece it is, by the event's fields; None for what does not count.
        """
        return [
            Doing(which, replica, datetime.fromisoformat(fields["timestamp"]).timestamp())
            for replica in replicas
            for fields in self.events(replica, event)
            if (which := item(fields)) is not None
        ]
