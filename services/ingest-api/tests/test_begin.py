"""When a job is to begin, as clients write it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_common.contracts.lanes import Lane
from headrace_ingest_api.begin import Begin, InvalidBeginError, choose_begin
from headrace_ingest_api.idempotency import fingerprint

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
EVENING = datetime(2026, 12, 24, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-12-24T18:00:00+01:00", "2026-12-24T17:00Z", "20261225T020000+09:00"]
)
def test_a_time_with_an_offset_is_that_moment(text: str) -> None:
    begin = Begin.read({"run_at": text, "priority": "low"})
    assert begin.run_at == EVENING
    assert begin.at(NOW) == EVENING


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("0", 0), ("PT1H30M", 5_400), ("P1W", 604_800), ("pt0,5s", 0.5)],
)
def test_a_delay_is_seconds_or_a_duration(text: str, seconds: float) -> None:
    begin = Begin.read({"delay": f" {text} "})
    assert begin.delay == timedelta(seconds=seconds)
    assert begin.at(NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("run_at", text) for text in ("soon", "2026-12-24", "2026-12-24T18:00:00", "1766600000")),
        ("run_at", "2026-12-24T18:00:00 01:00"),  # a plus that was not written %2B
        ("run_at", "9999-12-31T23:59:59-14:00"),
        *(("delay", text) for text in ("soon", "-1", "nan", "inf", "1e400", "P1M", "P", "P1DT")),
        ("delay", "P99999999999999D"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(field: str, text: str) -> None:
    with pytest.raises(InvalidBeginError) as caught:
        Begin.read({field: text})
    assert caught.value.detail.startswith(f"{field}: ")
    assert caught.value.extra["errors"] == [
        {"field": field, "message": caught.value.detail.removeprefix(f"{field}: ")}
    ]


def test_a_time_and_a_delay_are_too_much() -> None:
    both = {"run_at": "2026-12-24T17:00Z", "delay": "5"}
    with pytest.raises(InvalidBeginError, match="either"):
        Begin.read(both)
    with pytest.raises(InvalidBeginError, match="different"):
        choose_begin(Begin(run_at=EVENING), {"delay": "5"})


def test_the_query_and_the_form_may_say_the_same() -> None:
    query = Begin(run_at=EVENING)
    assert choose_begin(query, {}) == query
    assert choose_begin(query, {"run_at": "2026-12-24T18:00+01:00"}) == query
    assert choose_begin(Begin(), {"delay": "5"}) == Begin(delay=timedelta(seconds=5))


@pytest.mark.parametrize("begin", [Begin(run_at=EVENING), Begin(delay=timedelta(days=30))])
def test_it_may_not_be_too_far_off(begin: Begin) -> None:
    begin.check(now=NOW, most=timedelta(days=30))
    with pytest.raises(InvalidBeginError, match="28 days"):
        begin.check(now=NOW, most=timedelta(days=28))
    Begin(run_at=datetime(1970, 1, 1, tzinfo=UTC)).check(now=NOW, most=timedelta())


@given(
    st.one_of(
        st.builds(Begin, run_at=st.datetimes(timezones=st.just(UTC))),
        st.builds(Begin, delay=st.timedeltas(timedelta(), timedelta(days=3650))),
        st.just(Begin()),
    )
)
def test_a_direct_upload_remembers_it(begin: Begin) -> None:
    assert Begin.remembered({"filename": "a.wav", **begin.to_remember()}) == begin


def test_the_same_moment_is_the_same_request() -> None:
    def of(begin: Begin) -> str:
        return fingerprint(token_id="t", lane=Lane.LOW, file_sha256="0" * 64, begin=begin)

    assert of(Begin.read({"run_at": "2026-12-24T18:00+01:00"})) == of(Begin(run_at=EVENING))
    assert of(Begin.read({"delay": "PT1M"})) == of(Begin.read({"delay": "60"}))
    asked = [Begin(), Begin(run_at=EVENING), Begin(delay=timedelta(seconds=60))]
    assert len({of(begin) for begin in asked}) == 3
    # As the version before made it, so that a repetition is known across an upgrade.
    before = "d94c445f68dce5d3ed7c2163a8a519bd1a9a357cc112442ad9a13c5de31f61be"
    assert of(Begin()) == before
