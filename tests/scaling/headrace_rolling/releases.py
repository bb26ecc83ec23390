"""The code of earlier versions, beside which the present one has to work during a roll-out."""

import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[3]
_PACKAGES: Final = ("libs/common", "libs/analysis", "examples/speech-analysis-server")
_SERVICES: Final = ("ingest-api", "dispatcher", "results", "gpu-preprocessor")
#: The weights are looked for where they are in a checkout.
_ARCHIVED: Final = ("libs", "services", "examples", "models/road-damage/weights")


class NoHistoryError(Exception):
    """The code of an earlier version cannot be had: this tree is an export, or a shallow clone."""


@dataclass(frozen=True)
class Release:
    """An earlier version.

    Attributes:
        name: what the account calls it.
        commit: of its code.
        schema: the revision that it knows.
        reason: why it is tried.
        sends_again: why a firing's message may be sent by both versions, where it may.
    """

    name: str
    commit: str
    schema: str
    reason: str
    sends_again: str | None = None


#: The one place where they are pinned. Whoever adds a migration pins the commit before it here.
PREVIOUS: Final = Release(
    name="N-1",
    commit="e52859a41b4f4796a0a6d39c3372b9a7d8423439",
    schema="0007",
    reason="the last commit before the newest migration (0008)",
    sends_again="it names messages by the firing's number, the present one by the time that was "
    "due: what one leader sent and had not noted, the next sends under another name",
)
BEFORE_SCHEDULES: Final = Release(
    name="before the schedules",
    commit="08d02959bda2461f65e23d408e392088520f6b60",
    schema="0005",
    reason="three migrations back; house-keeping is done in loops, and nobody leads schedules",
)


def unpack(release: Release, place: Path) -> Path:
    """Write a version's code to a folder, and return that.

    Raises:
        NoHistoryError: git does not have it.
    """
    folder = place / release.commit
    try:
        packed = subprocess.run(
            ["git", "archive", release.commit, *_ARCHIVED],
            cwd=_ROOT,
            capture_output=True,
            check=True,
        )
    except FileNotFoundError:
        raise NoHistoryError("there is no git") from None
    except subprocess.CalledProcessError as error:
        raise NoHistoryError(error.stderr.decode().strip()) from None
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def folders_of(tree: Path) -> list[str]:
    """Return where Python is to look for a version's code, before that which is installed."""
    return [
        str(tree / folder / "src")
        for folder in (*_PACKAGES, *(f"services/{name}" for name in _SERVICES))
    ]
