"""What the variables of OpenTelemetry do to a process, and what leaves it with a span."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, SpanKind, StatusCode

from headrace_common.telemetry import configure_tracing, current_trace
from headrace_common.telemetry.exporting import CleaningExporter
from headrace_common.telemetry.messaging import queue_of
from headrace_common.telemetry.sampling import sampler_from_environment
from headrace_common.telemetry.trace import context_of, inside_trace, note_error

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def run(script: str, env: dict[str, str]) -> str:
    """Run a script in a process of its own: the tracer of a process is set once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=clean | env,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


OFF = f"""
import httpx, sys
from botocore.client import BaseClient
from headrace_common.telemetry import configure_tracing, continue_trace, current_trace, trace_id
send, call = httpx.HTTPTransport.handle_request, BaseClient._make_api_call
configure_tracing(service="test")
with continue_trace({{"traceparent": "{PARENT}", "tracestate": "a=b"}}, "work") as span:
    assert not span.is_recording()
    print(*current_trace().values())
with continue_trace({{}}, "work") as span:
    first = trace_id()
    assert len(first) == 32 and int(first, 16) and current_trace()["traceparent"].endswith("-00")
    with continue_trace(current_trace(), "more"):
        assert trace_id() == first
assert trace_id() is None
assert (send, call) == (httpx.HTTPTransport.handle_request, BaseClient._make_api_call)
assert not [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
assert not [name for name in sys.modules if name.startswith("opentelemetry.instrumentation")]
"""


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
    ids=["by default", "without exporter", "disabled"],
)
def test_off_it_hands_on_the_trace_as_it_came_and_touches_nothing(env: dict[str, str]) -> None:
    assert run(OFF, env) == f"{PARENT} a=b"


ON = f"""
from headrace_common.telemetry import configure_tracing, continue_trace, current_trace
from headrace_common.telemetry.messaging import MessagingSystem, processing, sending
configure_tracing(service="test")
with continue_trace({{"traceparent": "{PARENT}"}}, "ask", job_id="j1", nothing=None):
    with sending(MessagingSystem.SQS, "jobs", message_id="m1"):
        sent = current_trace()
with continue_trace({{}}, "other"):
    with processing(sent, MessagingSystem.SQS, "jobs", sent_ms=1, job_id="j1"):
        pass
"""


def test_the_standard_variables_are_followed() -> None:
    wanted = {"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "mine"}
    # At its exit the process says what it had not said, without being asked.
    spans = spans_of(run(ON, wanted))
    assert {span["resource"]["attributes"]["service.name"] for span in spans.values()} == {"mine"}
    ask, sent, received = spans["ask"], spans["send jobs"], spans["receive jobs"]
    done, other = spans["process jobs"], spans["other"]
    assert [(span["kind"], span["parent_id"]) for span in (ask, sent, received, done, other)] == [
        ("SpanKind.CONSUMER", "0x00f067aa0ba902b7"),
        ("SpanKind.PRODUCER", ask["context"]["span_id"]),
        ("SpanKind.CLIENT", sent["context"]["span_id"]),
        ("SpanKind.CONSUMER", sent["context"]["span_id"]),
        ("SpanKind.CONSUMER", None),
    ]
    # What was being done when a span of another trace began is not forgotten.
    assert [link["context"]["trace_id"] for link in done["links"]] == [other["context"]["trace_id"]]
    assert ask["links"] == sent["links"] == []
    assert done["context"]["trace_id"] == f"0x{TRACE}"
    assert ask["attributes"] == {"headrace.job_id": "j1"}
    assert sent["attributes"] == {
        "messaging.system": "aws_sqs",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "jobs",
        "messaging.message.id": "m1",
    }
    assert spans_of(run(ON, {**wanted, "OTEL_TRACES_SAMPLER": "always_off"})) == {}


TRIED = f"""
from headrace_common.telemetry import configure_tracing
from headrace_common.telemetry.messaging import MessagingSystem, processing
from headrace_common.telemetry.trace import fail_span
configure_tracing(service="test")
for attempt in (1, 2):
    fields = {{"traceparent": "{PARENT}"}}
    with processing(fields, MessagingSystem.SQS, f"jobs-{{attempt}}", attempt=attempt):
        if attempt == 1:
            fail_span("retried: https://h/?token=s3cret")
"""


def test_every_attempt_is_seen_and_what_failed_is_an_error() -> None:
    printed = run(TRIED, {"OTEL_TRACES_EXPORTER": "console"})
    assert "s3cret" not in printed
    spans = spans_of(printed)
    first, second = spans["process jobs-1"], spans["process jobs-2"]
    assert {first["parent_id"], second["parent_id"]} == {"0x00f067aa0ba902b7"}
    assert [each["attributes"]["headrace.attempt"] for each in (first, second)] == [1, 2]
    assert [each["status"]["status_code"] for each in (first, second)] == ["ERROR", "UNSET"]


def spans_of(printed: str) -> dict[str, Any]:
    """Read what the console exporter printed: one object after the other."""
    spans, decoder, rest = {}, json.JSONDecoder(), printed
    while rest:
        span, end = decoder.raw_decode(rest)
        spans[span["name"]] = span
        rest = rest[end:].lstrip()
    return spans


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "many"),
    ],
)
def test_what_cannot_be_done_is_said_at_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=value):
        configure_tracing(service="test")


def test_a_collector_that_is_away_holds_nobody_up() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    # What is registered first is called last.
    last = "import atexit, time; atexit.register(lambda: print(time.monotonic()))"
    began, ended = run(f"{last}\n{ON}\nprint(time.monotonic())", env).splitlines()
    # Three seconds, where the exporter by itself takes ten.
    assert float(ended) - float(began) < 9


@pytest.mark.parametrize(
    ("kind", "attributes", "kept"),
    [
        (SpanKind.SERVER, {"url.path": "/health/ready"}, False),
        (SpanKind.SERVER, {"url.path": "/metrics"}, False),
        (SpanKind.SERVER, {"url.path": "/jobs"}, True),
        (SpanKind.CLIENT, {}, False),
        (SpanKind.CONSUMER, {}, True),
    ],
)
def test_probes_and_lonely_calls_are_left_out(
    kind: SpanKind, attributes: dict[str, str], *, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    decided = sampler_from_environment().should_sample(None, 1, "", kind, attributes)
    assert (decided.decision is Decision.RECORD_AND_SAMPLE) is kept


def recorded(parent: str | None, kind: SpanKind) -> bool:
    """Whether a span of a sampler that keeps next to nothing by itself would be recorded."""
    context = Context() if parent is None else context_of({"traceparent": parent})
    decided = sampler_from_environment().should_sample(context, (1 << 128) - 1, "", kind, {})
    return decided.decision is Decision.RECORD_AND_SAMPLE


def test_what_the_sender_decided_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0001")
    left_out = PARENT.removesuffix("01") + "00"
    for kind in (SpanKind.SERVER, SpanKind.CONSUMER):
        assert not recorded(None, kind)
        assert recorded(PARENT, kind)
        assert not recorded(left_out, kind)


def test_a_flood_of_requests_that_ask_to_be_recorded_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what our own services send, all stays."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0001")
    sampler, context = sampler_from_environment(), context_of({"traceparent": PARENT})

    def kept(kind: SpanKind) -> int:
        decided = [sampler.should_sample(context, 1, "", kind, {}).decision for _ in range(5_000)]
        return decided.count(Decision.RECORD_AND_SAMPLE)

    started = time.monotonic()
    requests = kept(SpanKind.SERVER)
    # A hundred a second beyond the thousand that may come at once.
    assert 1_000 <= requests <= 1_000 + 100 * (time.monotonic() - started) + 1
    assert kept(SpanKind.CONSUMER) == 5_000


@pytest.mark.parametrize(
    "fields",
    [
        {"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"},
        {"traceparent": "x" * 100_000},
        {"traceparent": PARENT[:-1]},
        {"traceparent": PARENT + "\r\nx-evil: 1"},
        {"traceparent": "\x00"},
        {"traceparent": None},
        {"tracestate": "a=b"},
    ],
)
def test_a_trace_that_is_none_begins_a_new_one(fields: dict[str, Any]) -> None:
    assert context_of(fields) == Context()


@pytest.mark.parametrize("state", ["a=" + "b" * 10_000, "a=b," * 200, "<script>", "a=b\r\nx: 1"])
def test_a_hostile_tracestate_goes_nowhere(state: str) -> None:
    with inside_trace({"traceparent": PARENT, "tracestate": state}):
        assert current_trace() == {"traceparent": PARENT}


JOB = """
from headrace_common.telemetry import configure_tracing
from headrace_common.telemetry.trace import trace_of_job
configure_tracing(service="test")
told = [trace_of_job(f"job-{number}") for number in range(400)]
assert told == [trace_of_job(f"job-{number}") for number in range(400)]
assert len({each["traceparent"].split("-")[1] for each in told}) == 400
print(sum(each["traceparent"].endswith("-01") for each in told))
"""


@pytest.mark.parametrize(
    ("env", "fewest", "most"),
    [
        ({}, 0, 0),
        ({"OTEL_TRACES_EXPORTER": "console"}, 400, 400),
        (
            {
                "OTEL_TRACES_EXPORTER": "console",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.25",
            },
            60,
            140,
        ),
    ],
    ids=["off", "on", "a share"],
)
def test_a_job_without_a_trace_has_one_that_all_agree_on(
    env: dict[str, str], fewest: int, most: int
) -> None:
    assert fewest <= int(run(JOB, env)) <= most


def test_baggage_goes_nowhere() -> None:
    with inside_trace({"traceparent": PARENT, "baggage": "user=admin"}):
        assert set(current_trace()) == {"traceparent"}


BATCH = f"""
import boto3
from botocore.stub import Stubber
from headrace_common.telemetry import configure_tracing
from headrace_common.telemetry.trace import inside_trace
configure_tracing(service="test")
sqs = boto3.client("sqs", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
others = ["{PARENT}", "00-{"a" * 32}-00f067aa0ba902b7-01", "nonsense"]
entries = [
    {{"Id": str(n), "MessageBody": "x", "MessageAttributes": {{
        "traceparent": {{"DataType": "String", "StringValue": other}}}}}}
    for n, other in enumerate(others)
]
with Stubber(sqs) as stub, inside_trace({{"traceparent": "{PARENT}"}}):
    stub.add_response("send_message_batch", {{"Successful": [], "Failed": []}})
    sqs.send_message_batch(QueueUrl="https://sqs/1/jobs", Entries=entries)
"""


def test_a_call_for_several_messages_links_to_the_traces_of_the_others() -> None:
    spans = spans_of(run(BATCH, {"OTEL_TRACES_EXPORTER": "console"}))
    [call] = [span for name, span in spans.items() if "SendMessageBatch" in name]
    assert call["context"]["trace_id"] == f"0x{TRACE}"
    assert [link["context"]["trace_id"] for link in call["links"]] == [f"0x{'a' * 32}"]
    assert call["attributes"]["messaging.batch.message_count"] == 3


def exported(span_name: str, attributes: dict[str, Any], error: Exception) -> ReadableSpan:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(CleaningExporter(kept)))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("other") as other:
        pass
    link = Link(other.get_span_context(), {"url": "http://h/?sig=s3cret"})
    with tracer.start_as_current_span(span_name, links=[link], kind=SpanKind.CLIENT) as span:
        span.set_attributes(attributes)
        note_error(error)
    return kept.get_finished_spans()[-1]


def test_nothing_secret_and_nothing_long_leaves_the_process() -> None:
    span = exported(
        "GET http://user:s3cret@host/",
        {
            "url.full": "http://user:s3cret@host/v1/a?temp_url_sig=s3cret&x=s3cret",
            "url.query": "job_id=1&token=s3cret",
            "http.request.header.authorization": ["Basic s3cret"],
            "http.request.header.x-api-key": "s3cret",
            "http.request.header.accept": ["*/*", "hr_0123456789ab_s3cret"],
            "long": "x" * 10_000,
            "count": 3,
        },
        ValueError("cannot reach postgresql://me:s3cret@host/db?password=s3cret"),
    )
    text = span.to_json()
    assert "s3cret" not in text
    assert span.attributes is not None
    assert span.attributes["url.query"] == "job_id=1&token=[redacted]"
    assert span.attributes["count"] == 3
    assert len(str(span.attributes["long"])) == 2_048
    assert span.status.status_code is StatusCode.ERROR
    told = "ValueError: cannot reach postgresql://[redacted]@host/db?password=[redacted]"
    assert span.status.description == told
    [event] = span.events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "ValueError"
    assert span.kind is SpanKind.CLIENT
    assert span.links[0].context.is_valid


def test_a_queue_is_named_as_its_url_ends() -> None:
    assert queue_of("http://127.0.0.1:9/000000000000/jobs.fifo") == "jobs.fifo"
