"""What a dead letter is: plain values, made by the sources and kept in one table."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import JsonValue

from headrace_common.db import is_storable

#: What Postgres stores neither in text nor in JSON.
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
#: Of what people read; the payload has the rest.
_LONGEST_REASON: Final = 4_000
_LONGEST_ID: Final = 500


class Source(StrEnum):
    """Where letters die."""

    DRAMATIQ = "dramatiq"
    SQS = "sqs"
    #: The stream of camera jobs.
    STREAM = "stream"
    #: The stream of the gpu-preprocessor's reports.
    REPORTS = "reports"
    #: The inbox of the results service.
    WEBHOOK = "webhook"


class Kind(StrEnum):
    """What a letter was."""

    #: A Dramatiq message that hands a job to an analysis server.
    DISPATCH = "dispatch"
    #: A Dramatiq message that applies a report.
    APPLY_REPORT = "apply_report"
    #: A Dramatiq message of no kind that we know.
    MESSAGE = "message"
    #: A job on its way to an analysis server over SQS.
    ANALYSIS_REQUEST = "analysis_request"
    #: An analysis server's answer on the result queue.
    ANALYSIS_REPORT = "analysis_report"
    #: A camera job.
    STREAM_ENTRY = "stream_entry"
    #: A report of the gpu-preprocessor.
    STREAM_REPORT = "stream_report"
    #: A report in the inbox that could not be applied.
    INBOX_REPORT = "inbox_report"


class State(StrEnum):
    """What was decided about a letter."""

    DEAD = "dead"
    #: To be replayed once it is due.
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    DROPPED = "dropped"


#: Nothing is to be decided about these any more.
SETTLED: Final = (State.REPLAYED, State.DROPPED)


@dataclass(frozen=True, kw_only=True)
class NewLetter:
    """A letter that was found.

    Attributes:
        queue: where it was to be worked off.
        source_id: its id there; one of the same source, queue and id is the same letter.
        run: of the job, where the letter tells.
        code: stable, for programs.
        reason: for people.
        payload: all that is needed to replay it.
        attempts: times that it was tried, where that is known.
        at_source: it stays where it died until it is replayed or dropped.
    """

    source: Source
    queue: str
    source_id: str
    kind: Kind
    code: str
    reason: str
    payload: dict[str, JsonValue]
    died_at: datetime
    job_id: str | None = None
    run: int | None = None
    attempts: int | None = None
    at_source: bool = False


def storable(text: str, *, longest: int = _LONGEST_REASON) -> str:
    """Return a text as Postgres can store it, cut where it is too long."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)[:longest]


def storable_id(value: object) -> str | None:
    """Return an id that a letter tells; None where it is none."""
    if not isinstance(value, str) or not value or len(value) > _LONGEST_ID:
        return None
    return value if is_storable(value) else None


def pack_text(data: bytes) -> dict[str, JsonValue]:
    """Return bytes as JSON that Postgres stores: text where it is text, else base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    return {"text": text} if is_storable(text) else {"base64": base64.b64encode(data).decode()}


def unpack_text(packed: Mapping[str, Any]) -> bytes:
    """Return the bytes that `pack_text` packed."""
    if "base64" in packed:
        return base64.b64decode(packed["base64"])
    return str(packed["text"]).encode()


def pack_fields(fields: Mapping[bytes, bytes]) -> dict[str, JsonValue]:
    """Return the fields of a stream's entry as JSON; those that are no text byte for byte."""
    texts: dict[str, JsonValue] = {}
    others: list[JsonValue] = []
    for name, value in fields.items():
        packed_name, packed_value = pack_text(name), pack_text(value)
        if "text" in packed_name and "text" in packed_value:
            texts[str(packed_name["text"])] = packed_value["text"]
        else:
            others.append([packed_name, packed_value])
    return {"fields": texts, **({"binary": others} if others else {})}


def unpack_fields(payload: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return the fields that `pack_fields` packed."""
    fields = {name.encode(): value.encode() for name, value in payload["fields"].items()}
    others = {unpack_text(n): unpack_text(v) for n, v in payload.get("binary", [])}
    return fields | others


def read_object(text: bytes | str) -> dict[str, Any]:
    """Read a JSON object; an empty one where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
