"""Names: of the object a recording is stored as, and of the file as its sender called it."""

import re
import unicodedata
from datetime import datetime
from typing import Final

from headrace_ingest_api.recognition import Container

#: What file systems take, and enough to recognise a file by.
MAX_FILENAME_CHARACTERS: Final = 200
#: What the keys of all recordings begin with.
RECORDINGS: Final = "audio/"
_SEPARATORS: Final = re.compile(r"[/\\]")
#: Control, format (text direction), surrogate, private and unassigned characters.
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def recording_key(job_id: str, container: Container, now: datetime) -> str:
    """Return the S3 key of a recording."""
    return f"{recordings_folder(now)}{job_id}.{container.extension}"


def recordings_folder(day: datetime) -> str:
    """Return what the keys of a day's recordings begin with."""
    return f"{RECORDINGS}{day:%Y/%m/%d}/"


def job_of_key(key: str) -> str:
    """Return the id of the job that a recording's key belongs to."""
    return key.rpartition("/")[2].rpartition(".")[0]


def display_name(filename: str | None, container: Container) -> str:
    """Return a file name that is safe to show and to save under, and bounded.

    Without folders, without invisible characters; `recording.wav` where nothing is left.
    """
    last = _SEPARATORS.split(unicodedata.normalize("NFC", filename or ""))[-1]
    visible = "".join(
        character for character in last if unicodedata.category(character) not in _HIDDEN_CATEGORIES
    )
    name = visible.strip().strip(".").strip()
    if len(name) > MAX_FILENAME_CHARACTERS:
        stem, dot, ending = name.rpartition(".")
        tail = f"{dot}{ending}" if stem and len(ending) < 10 else ""
        name = name[: MAX_FILENAME_CHARACTERS - len(tail)] + tail
    return name or f"recording.{container.extension}"
