"""Logs never carry a secret, and always the job and trace ids."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from headrace_common.telemetry import configure_logging, configure_tracing, continue_trace
from headrace_common.telemetry.logs import redact
from headrace_common.telemetry.secrets import deeply_without_url_values
from headrace_common.telemetry.trace import current_trace, trace_id


@pytest.fixture(autouse=True)
def no_logs_afterwards() -> Iterator[None]:
    """Leave no handler behind that writes to the test's own standard output, which is closed."""
    yield
    logging.getLogger().handlers.clear()


_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("authorization", "Bearer abc"),
        ("redis_password", "abc"),
        ("webhook_secrets", ("abc",)),
        ("api_key", "abc"),
        ("callback_token", "abc"),
    ],
)
def test_a_secret_field_is_redacted(field: str, value: object) -> None:
    assert redact(None, "info", {field: value})[field] == "[redacted]"


@pytest.mark.parametrize(
    "text",
    [
        "key hr_0123456789ab_Secret-Part_x failed",
        "bad whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0 here",
        "POST http://h/hook?job_id=1&token=Secret-Part",
        "connect postgresql://user:Secret-Part@host/db",
        "read https://Secret-Part@camera/live.m3u8",
        "read https://camera/live.m3u8?quality=2&access_token=Secret-Part&x=1",
        "read https://camera/live.m3u8?wowzatokenhash=Secret-Part",
        "read https://s3/o?X-Amz-Credential=a&X-Amz-Signature=Secret-Part",
        "read https://swift/v1/a/c/o?temp_url_sig=Secret-Part&temp_url_expires=1",
        "read https://user:p@Secret-Part@camera",
        "read https://camera/live.m3u8?wmsAuthSign=Secret-Part",
        "read https://camera/live.m3u8?md5=Secret-Part&expires=1",
        "read https://camera/live.m3u8?e=1&st=Secret-Part",
        "read https://camera/live.m3u8?hash=Secret-Part",
        "read https://camera/api?serviceKey=Secret-Part",
        "read https://camera/api?crtfc_key=Secret-Part",
        "read https://camera/live.m3u8?session=Secret-Part",
        "read https://camera/live.m3u8?credentials=Secret-Part",
        "read https://camera/live.m3u8?id=a&pw=Secret-Part",
        "read https://camera/hdnts=exp=1~acl=%2f*~hmac=Secret-Part/live.m3u8",
        "read https://camera/live.m3u8?t=exp=1~hmac=Secret-Part",
    ],
)
def test_a_secret_inside_text_is_redacted(text: str) -> None:
    shown = redact(None, "info", {"event": text})["event"]
    assert "Secret-Part" not in shown
    assert "c2VjcmV0" not in shown
    assert "[redacted]" in shown


def test_ids_are_not_taken_for_secrets() -> None:
    event = {
        "token_id": "mary",
        "job_id": "1",
        "path": "/tokens/mary?token_id=a@b&monkey=1&design=a&state=1",
    }
    assert redact(None, "info", dict(event)) == event


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://camera/1/live.m3u8", "https://camera/1/live.m3u8"),
        (
            "http://u:p@ss@camera:80/a?x=1&y=2",
            "http://[redacted]@camera:80/a?x=[redacted]&y=[redacted]",
        ),
        ("https://camera/a?one;two=2;three=", "https://camera/a?[redacted];two=[redacted];three="),
        (
            "https://camera/t=exp=1~hmac=2/live.m3u8#f",
            "https://camera/t=[redacted]/live.m3u8#[redacted]",
        ),
        ('https://camera?a=b c=d"e', "https://camera?a=[redacted]"),
        ("https://camera/?a=[redacted]", "https://camera/?a=[redacted]"),
        ("nonsense", "[redacted]"),
    ],
)
def test_of_a_stream_only_names_are_shown(url: str, shown: str) -> None:
    told = {"hls": url, "sec": 20, "told": [f"GET {url}"]}
    assert deeply_without_url_values(told)["hls"] == shown
    assert deeply_without_url_values({"hls": shown}) == {"hls": shown}


def test_urls_in_text_lose_the_values_of_their_queries() -> None:
    told = ["GET https://camera/a?anything=1 answers 404 (a=b?)", {"n": 1, "t": "no URL: x=1"}]
    assert deeply_without_url_values(told) == [
        "GET https://camera/a?anything=[redacted] answers 404 (a=b?)",
        {"n": 1, "t": "no URL: x=1"},
    ]


def test_a_line_carries_service_job_and_trace(capfd: pytest.CaptureFixture[str]) -> None:
    configure_tracing(service="test")
    configure_logging(service="test", log_format="json")
    with continue_trace({"traceparent": f"00-{_TRACE}-00f067aa0ba902b7-01"}, "work", job_id="j1"):
        assert trace_id() == _TRACE
        assert current_trace()["traceparent"].split("-")[1] == _TRACE
        structlog.get_logger().info("thing.done", count=3)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (line,) = (line for line in lines if line["event"] == "thing.done")
    assert (line["service"], line["job_id"], line["trace_id"]) == ("test", "j1", _TRACE)
    assert line["count"] == 3


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_has_neither_variables_nor_secrets(
    log_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(service="test", log_format=log_format)
    secret = "in-a-" + "variable"

    def fail(_: str) -> None:
        raise RuntimeError("cannot reach redis://:in-a-url@host")

    try:
        fail(secret)
    except RuntimeError:
        structlog.get_logger().exception("thing.failed")
    printed = capfd.readouterr().out
    assert "RuntimeError" in printed
    assert "test_logs.py" in printed
    assert "in-a-variable" not in printed
    assert "in-a-url" not in printed
