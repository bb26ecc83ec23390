"""Reading a report: strict JSON that Postgres can store, of the form that A10 has."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from headrace_common.contracts import AnalysisReport
from headrace_common.errors import UnprocessableError

#: Deeper nesting is no analysis result, and would exhaust the stack of what reads it later.
_MAX_DEPTH: Final = 64
#: What PostgreSQL's jsonb refuses in text: NUL, and halves of surrogate pairs.
_UNSTORABLE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ReceivedReport:
    """A report as it came, and what it says."""

    payload: dict[str, JsonValue]
    report: AnalysisReport


def read_report(body: bytes) -> ReceivedReport:
    """Read the body of a webhook or of a message on the result queue.

    NUL characters are dropped from texts and unpaired surrogates replaced: an analysis must
    not be lost for a stray character that the database cannot store.

    Raises:
        UnprocessableError: it is not JSON, or not a report; the message never repeats the input.
    """
    payload = read_object(body)
    try:
        return ReceivedReport(payload, AnalysisReport.model_validate(payload))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise UnprocessableError(f"not a report: {faults}") from None


def job_id_of(report: AnalysisReport, query_job_id: str | None) -> str:
    """Return which job a report is about, by the query or by the report itself.

    Raises:
        UnprocessableError: neither names it, or they differ.
    """
    if query_job_id and report.job_id and query_job_id != report.job_id:
        raise UnprocessableError("job_id in the query and in the report differ")
    job_id = query_job_id or report.job_id
    if not job_id:
        raise UnprocessableError("neither the query nor the report names a job_id")
    return job_id


def canonical(payload: dict[str, JsonValue]) -> bytes:
    """Return the one text that all spellings of the same JSON share."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()


def read_object(body: bytes) -> dict[str, JsonValue]:
    """Read a JSON object as Postgres can store it.

    Raises:
        UnprocessableError: it is none.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise UnprocessableError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise UnprocessableError("the body is not a JSON object")
    cleaned: dict[str, JsonValue] = storable(value)
    return cleaned


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def storable(value: Any, *, depth: int = 0) -> Any:
    """Return a JSON value without the characters that Postgres refuses.

    Raises:
        UnprocessableError: it is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise UnprocessableError(f"the body is nested deeper than {_MAX_DEPTH} levels")
    match value:
        case str():
            return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value.replace("\0", ""))
        case list():
            return [storable(item, depth=depth + 1) for item in value]
        case dict():
            return {
                storable(key, depth=depth): storable(item, depth=depth + 1)
                for key, item in value.items()
            }
        case _:
            return value
