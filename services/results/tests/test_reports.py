import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from headrace_common.contracts import AnalysisReport, ReportStatus
from headrace_common.errors import UnprocessableError
from headrace_results.inbox import content_key
from headrace_results.reports import job_id_of, read_report


def test_a_report_is_kept_whole_and_understood() -> None:
    body = b'{"status": "success", "result": {"hz": 1.5}, "extra": [1, null]}'

    received = read_report(body)

    assert received.payload == json.loads(body)
    assert received.report.status is ReportStatus.COMPLETED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"completed"',
        b"\xff\xfe",
        b"{}",
        b'{"status": "perhaps"}',
        b'{"status": ["completed"]}',
        b'{"status": "processing", "progress": 101}',
        b'{"status": "processing", "progress": NaN}',
        b'{"status": "completed", "result": {"a": Infinity}}',
        b'{"status": "completed", "result": {"a": 1e999}}',
        b'{"status": "completed", "result": {"a": ' + b"9" * 5_000 + b"}}",
        b'{"status": "completed", "result": ' + b'{"a":' * 100 + b"1" + b"}" * 101,
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(errors="replace"),
)
def test_what_is_no_report_is_refused(body: bytes) -> None:
    with pytest.raises(UnprocessableError):
        read_report(body)


def test_what_postgres_cannot_store_is_taken_out_of_texts() -> None:
    body = rb'{"status": "completed", "message": "a\u0000b", "result": {"k\u0000": "\ud800x"}}'

    received = read_report(body)

    assert received.payload["message"] == "ab"
    assert received.payload["result"] == {"k": "\N{REPLACEMENT CHARACTER}x"}
    assert received.report.message == "ab"


def test_a_refusal_never_repeats_the_input() -> None:
    with pytest.raises(UnprocessableError) as refusal:
        read_report(b'{"status": "s3cret", "progress": "s3cret"}')

    assert "s3cret" not in refusal.value.detail
    assert "status" in refusal.value.detail


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        received = read_report(body)
    except UnprocessableError:
        return
    assert "\\u0000" not in json.dumps(received.payload)


@pytest.mark.parametrize(
    ("query", "own", "expected"), [("a", None, "a"), (None, "a", "a"), ("a", "a", "a")]
)
def test_the_job_is_named_by_query_or_report(
    query: str | None, own: str | None, expected: str
) -> None:
    assert (
        job_id_of(AnalysisReport.model_validate({"status": "done", "job_id": own}), query)
        == expected
    )


@pytest.mark.parametrize(("query", "own"), [("a", "b"), (None, None), ("", "")])
def test_a_report_without_one_job_is_refused(query: str | None, own: str | None) -> None:
    report = AnalysisReport.model_validate({"status": "done", "job_id": own})
    with pytest.raises(UnprocessableError):
        job_id_of(report, query)


def test_the_content_key_sees_what_is_said_and_of_whom() -> None:
    key = content_key("a", {"status": "done", "result": {"x": 1, "y": 2}})

    assert key == content_key("a", {"result": {"y": 2, "x": 1}, "status": "done"})
    assert key != content_key("b", {"status": "done", "result": {"x": 1, "y": 2}})
    assert key != content_key("a", {"status": "done", "result": {"x": 1, "y": 3}})


def test_the_same_said_in_another_run_is_another_report() -> None:
    payload: dict[str, JsonValue] = {"status": "done"}
    first, untold = content_key("a", payload, run=1), content_key("a", payload)
    assert first == untold
    assert content_key("a", payload, run=2) not in {first, content_key("a", payload, run=3)}
