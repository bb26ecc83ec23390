"""Decisions: what becomes of a failed attempt, of a delivery, and how entries are read."""

import pytest

from headrace_common.contracts.cctv import MalformedEntryError
from headrace_common.errors import NotFoundError, UnavailableError
from headrace_common.settings import BadSettingsError
from headrace_gpu_preprocessor.stream.deliveries import Hold
from headrace_gpu_preprocessor.stream.entries import dead_letter, job_id_of, read_entry
from headrace_gpu_preprocessor.stream.plan import (
    Bury,
    Failure,
    Retry,
    RetryLimits,
    plan_delivery,
    plan_retry,
)
from headrace_gpu_preprocessor.stream.settings import StreamSettings

LIMITS = RetryLimits(max_retry=3, base_seconds=5, max_seconds=60)
AWAY = Failure.of(UnavailableError("away", retry_after=None))


@pytest.mark.parametrize(
    ("attempt", "chance", "delay"),
    [(0, 1, 5), (0, 0, 2.5), (1, 1, 10), (2, 1, 20), (2, 0, 10)],
)
def test_back_off_doubles_and_spreads(attempt: int, chance: float, delay: float) -> None:
    plan = plan_retry(AWAY, attempt=attempt, limits=LIMITS, chance=chance)
    assert plan == Retry(attempt + 1, delay)


def test_back_off_has_a_limit() -> None:
    limits = RetryLimits(max_retry=100, base_seconds=5, max_seconds=60)
    assert plan_retry(AWAY, attempt=99, limits=limits, chance=1) == Retry(100, 60)


def test_an_error_that_knows_how_long_is_believed_up_to_a_day() -> None:
    later = Failure.of(UnavailableError("jam", retry_after=900))
    assert plan_retry(later, attempt=0, limits=LIMITS, chance=1) == Retry(1, 900)
    never = Failure.of(UnavailableError("jam", retry_after=1e9))
    assert plan_retry(never, attempt=0, limits=LIMITS, chance=1) == Retry(1, 86_400)


@pytest.mark.parametrize("attempt", [3, 4, 1_000])
def test_the_last_retry_is_the_last(attempt: int) -> None:
    plan = plan_retry(AWAY, attempt=attempt, limits=LIMITS, chance=1)
    assert plan == Bury("unavailable", f"after {attempt} retries: away")


def test_what_no_retry_can_help_is_given_up_at_once() -> None:
    gone = Failure.of(NotFoundError("no such camera"))
    assert plan_retry(gone, attempt=0, limits=LIMITS, chance=0) == Bury(
        "not_found", "no such camera"
    )


def test_surprises_may_go_away_by_themselves() -> None:
    failure = Failure.of(KeyError("x"))
    assert (failure.code, failure.retryable, failure.expected) == ("internal_error", True, False)
    assert Failure.of(MemoryError()).code == "out_of_memory"
    assert Failure.of(MemoryError()).retryable


@pytest.mark.parametrize(("delivery", "buried"), [(1, False), (3, False), (4, True)])
def test_what_kills_its_processes_is_given_up(delivery: int, buried: bool) -> None:  # noqa: FBT001
    plan = plan_delivery(delivery, max_deliveries=3)
    assert (plan is not None) is buried
    assert plan is None or plan.code == "worker_killed"


GOOD = {b"cctvId": b"c", b"hls": b"http://c/l.m3u8", b"sec": b"20", b"enqueuedAt": b"1"}


def test_the_id_of_a_malformed_job_is_found_where_it_can_be() -> None:
    sound = read_entry(GOOD).job_id
    assert job_id_of({**GOOD, b"attempt": b"-5"}) == sound
    assert job_id_of({**GOOD, b"attempt": b"-5", b"jobId": b"given"}) == "given"
    region = b"[[[0,0],[1,0],[1,1]]]" + b" " * 1_000
    for wrong in ({b"attempt": b"-5", b"roadRegion": region}, {b"roadRegion": b"[[["}):
        assert job_id_of({**GOOD, **wrong}) == sound
    assert job_id_of({b"jobId": b"given"}) == "given"
    assert job_id_of({b"jobId": b"../../x", b"cctvId": b"c"}) is None
    assert job_id_of({}) is None


def test_entries_that_are_no_text_or_too_many_fields_are_malformed() -> None:
    with pytest.raises(MalformedEntryError, match="UTF-8"):
        read_entry({**GOOD, b"note": b"\xff"})
    with pytest.raises(MalformedEntryError, match="fields"):
        read_entry({**GOOD, **{f"f{n}".encode(): b"" for n in range(100)}})


def test_a_dead_letter_has_the_original_and_the_reason() -> None:
    fields = {**GOOD, b"reason": b"theirs", b"blob": b"\x00\xff"}
    letter = dead_letter(fields, Hold("7-1", 4), "one", Bury("code", "why \ud800"))
    assert letter[b"blob"] == b"\x00\xff"
    assert letter[b"reason"] == b"why ?"
    assert (letter[b"sourceId"], letter[b"deliveries"], letter[b"code"]) == (b"7-1", b"4", b"code")
    assert b"fieldsDropped" not in letter
    many = {f"f{n}".encode(): b"" for n in range(600)}
    assert dead_letter(many, Hold("7-1", 1), "one", Bury("c", "r"))[b"fieldsDropped"] == b"100"


def test_settings_have_the_names_of_the_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REDIS_STREAM": "s",
        "REDIS_GROUP": "g",
        "REDIS_BLOCK_MS": "100",
        "REDIS_BATCH_COUNT": "5",
        "REDIS_VISIBILITY_TIMEOUT": "60",
        "REDIS_MAX_RETRY": "1",
        "MAX_CONCURRENCY": "4",
        "CONSUMER_NAME": "pod-1",
    }.items():
        monkeypatch.setenv(name, value)
    settings = StreamSettings.load()
    assert (settings.redis_stream, settings.redis_group, settings.max_concurrency) == ("s", "g", 4)
    assert settings.redis_dlq_stream == "s:dlq"
    assert settings.redis_visibility_timeout == 60
    monkeypatch.setenv("REDIS_DLQ_STREAM", "s:delayed")
    with pytest.raises(BadSettingsError, match="must differ"):
        StreamSettings.load()
    monkeypatch.setenv("REDIS_DLQ_STREAM", "letters")
    monkeypatch.setenv("CONSUMER_NAME", "handed-back")
    with pytest.raises(BadSettingsError, match="CONSUMER_NAME"):
        StreamSettings.load()
    monkeypatch.setenv("CONSUMER_NAME", "pod-1")
    monkeypatch.setenv("REDIS_GROUP", "results")
    with pytest.raises(BadSettingsError, match="REDIS_GROUP"):
        StreamSettings.load()
    monkeypatch.setenv("REDIS_GROUP", "g")
    for name in ("REDIS_DLQ_STREAM", "REDIS_STREAM", "CONSUMER_NAME"):
        monkeypatch.delenv(name)
    plain = StreamSettings.load()
    assert (plain.redis_stream, plain.redis_dlq_stream) == (
        "stream:preprocess",
        "stream:preprocess:dlq",
    )
