"""Names of damage classes: codes as road surveys have them, and titles for people."""

import json
from pathlib import Path
from typing import Final

#: Classes of the shipped model, as RDD2022 names them.
TITLES: Final = {
    "D00": "Longitudinal crack",
    "D10": "Transverse crack",
    "D20": "Alligator crack",
    "D40": "Pothole",
}
#: More are no classes of damage; each is a label of metrics too.
MAX_LABELS: Final = 100


class LabelsError(Exception):
    """A label map that is none; the message says why."""


def title_of(label: str) -> str:
    """Return a class's readable name."""
    plain = label.replace("_", " ").strip()
    return TITLES.get(label) or plain[:1].upper() + plain[1:]


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a label map: a JSON list of names, or an object from index to name.

    Raises:
        LabelsError: it cannot be read, or is neither.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LabelsError(f"the label map {path} cannot be read: {error}") from error
    try:
        return checked_labels(found)
    except LabelsError as error:
        raise LabelsError(f"the label map {path}: {error}") from error


def checked_labels(value: object) -> tuple[str, ...]:
    """Return the labels of a list of names, or of an object from index to name.

    Raises:
        LabelsError: it is neither, an index is missing, or a name is empty or there twice.
    """
    if isinstance(value, dict):
        keys = {str(key): name for key, name in value.items()}
        try:
            value = [keys[str(index)] for index in range(len(keys))]
        except KeyError as error:
            raise LabelsError(f"the indices must go from 0 on, {error} is missing") from error
    if not isinstance(value, list) or not 0 < len(value) <= MAX_LABELS:
        raise LabelsError(f"must be a list of 1 to {MAX_LABELS} names, or an object index to name")
    if not all(isinstance(name, str) and name.strip() and len(name) <= 60 for name in value):
        raise LabelsError("each name must have 1 to 60 characters")
    if len(set(value)) != len(value):
        raise LabelsError("a name is there twice")
    return tuple(value)
