"""The dispatcher's decisions: batches, retries, transports, recovery."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job
from headrace_common.retry_after import retry_after_seconds
from headrace_dispatcher.microbatch import BatchLimits, MicroBatcher, pack_batches
from headrace_dispatcher.recovery import Action, plan_recovery
from headrace_dispatcher.retries import (
    REFUSALS,
    costs_a_try,
    hold_seconds,
    is_poison,
    plan_retry,
)
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.transports import TransportError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = DispatcherSettings.model_validate(
    {
        "database_url": "postgresql://h/d",
        "analysis_server_url": "http://127.0.0.1:9/analyze",
        "webhook_url": "http://127.0.0.1:9/hook",
        "callback_token_secrets": ["s" * 32],
    }
)


@given(st.lists(st.integers(0, 120)))
def test_batches_keep_order_and_limits(sizes: list[int]) -> None:
    limits = BatchLimits(entries=10, size=100, linger_seconds=0)
    batches = list(pack_batches(sizes, limits=limits, size_of=lambda size: size))
    assert [size for batch in batches for size in batch] == sizes
    assert all(len(batch) <= 10 for batch in batches)
    assert all(sum(batch) <= 100 or len(batch) == 1 for batch in batches)


def test_batches_are_as_full_as_they_can_be() -> None:
    limits = BatchLimits(entries=10, size=1_000, linger_seconds=0)
    batches = list(pack_batches(range(25), limits=limits, size_of=lambda _: 1))
    assert [len(batch) for batch in batches] == [10, 10, 5]


@pytest.mark.parametrize(("refusals", "delay"), [(1, 2.0), (2, 8.0), (3, 32.0)])
def test_a_passing_error_is_retried_with_growing_delays(refusals: int, delay: float) -> None:
    error = TransportError("busy", retryable=True)
    plan = plan_retry(error, refusals=refusals, max_retries=3, base_seconds=2, jitter=1)
    assert (plan.action, plan.delay_seconds) == ("retry", delay)


@given(st.integers(1, 3), st.floats(0, 1))
def test_jitter_takes_away_half_at_most(refusals: int, jitter: float) -> None:
    error = TransportError("busy", retryable=True)
    plan = plan_retry(error, refusals=refusals, max_retries=3, base_seconds=2, jitter=jitter)
    whole = 2 * 4 ** (refusals - 1)
    assert whole / 2 <= plan.delay_seconds <= whole


def test_the_other_sides_wish_to_wait_is_respected() -> None:
    error = TransportError("busy", retryable=True, retry_after=60)
    plan = plan_retry(error, refusals=1, max_retries=3, base_seconds=2, jitter=0)
    assert plan.delay_seconds == 60


@pytest.mark.parametrize(("retryable", "refusals"), [(False, 1), (True, 4)])
def test_a_final_error_and_a_spent_budget_end_the_job(*, retryable: bool, refusals: int) -> None:
    error = TransportError("no", retryable=retryable)
    plan = plan_retry(error, refusals=refusals, max_retries=3, base_seconds=2, jitter=0)
    assert plan.action == "give_up"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("100000", 300),
        ("soon", None),
        (format_datetime(datetime.fromtimestamp(1_000_010, UTC)), 10),
        (format_datetime(datetime.fromtimestamp(999_000, UTC)), 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=1_000_000) == seconds


@pytest.mark.parametrize(
    ("status", "age_seconds", "action"),
    [
        (JobStatus.UPLOADING, 5 * 3600, None),
        (JobStatus.UPLOADING, 7 * 3600, Action.FAIL),
        (JobStatus.SCHEDULED, 365 * 24 * 3600, None),
        (JobStatus.QUEUING, 10, None),
        (JobStatus.QUEUING, 31, Action.REQUEUE),
        (JobStatus.QUEUED, 31, Action.REQUEUE_IF_LOST),
        (JobStatus.QUEUED, 24 * 3600, Action.REQUEUE_IF_STUCK),
        (JobStatus.PROCESSING, 30, None),
        (JobStatus.PROCESSING, 31, Action.REQUEUE_IF_LOST),
        (JobStatus.PROCESSING, 1801, Action.REQUEUE_IF_STUCK),
        (JobStatus.QUEUED_FOR_ANALYSIS, 5 * 3600, None),
        (JobStatus.QUEUED_FOR_ANALYSIS, 7 * 3600, Action.ASK_AGAIN),
    ],
)
def test_what_a_stuck_job_gets(status: JobStatus, age_seconds: int, action: Action | None) -> None:
    plan = plan_recovery(_job(status, age_seconds=age_seconds), SETTINGS, now=NOW)
    assert (plan.action if plan else None) is action


@pytest.mark.parametrize(
    ("status", "waits_seconds", "action"),
    [
        (JobStatus.QUEUED, 1, None),
        (JobStatus.PROCESSING, 3600, None),
        (JobStatus.PROCESSING, -29, None),
        (JobStatus.PROCESSING, -31, Action.REQUEUE_IF_STUCK),
        (JobStatus.QUEUED_FOR_ANALYSIS, 1, None),
        (JobStatus.QUEUED_FOR_ANALYSIS, -1, Action.ASK_AGAIN),
    ],
)
def test_what_waits_until_a_known_time_is_not_lost(
    status: JobStatus, waits_seconds: int, action: Action | None
) -> None:
    job = _job(status, age_seconds=7 * 3600)
    job.retry_at = NOW + timedelta(seconds=waits_seconds)
    plan = plan_recovery(job, SETTINGS, now=NOW)
    assert (plan.action if plan else None) is action


@pytest.mark.parametrize(
    ("circuit_seconds", "retry_after", "jitter", "seconds"),
    [(0, None, 0, 1), (8, None, 0, 8), (8, 60, 0, 60), (8, 2, 1, 10)],
)
def test_a_hold_lasts_until_its_dependency_is_tried_again(
    circuit_seconds: float, retry_after: float | None, jitter: float, seconds: float
) -> None:
    assert seconds == hold_seconds(
        circuit_seconds=circuit_seconds, retry_after=retry_after, least_seconds=1, jitter=jitter
    )


def test_an_analysis_that_has_begun_may_be_silent_for_one_stage_only() -> None:
    job = _job(JobStatus.QUEUED_FOR_ANALYSIS, age_seconds=3 * 3600)
    job.meta = {"analysis_progress": 20}
    job.updated_at = NOW - timedelta(seconds=899)
    assert plan_recovery(job, SETTINGS, now=NOW) is None
    job.updated_at = NOW - timedelta(seconds=901)
    plan = plan_recovery(job, SETTINGS, now=NOW)
    assert plan is not None
    assert plan.action is Action.ASK_AGAIN


def test_an_analysis_that_only_says_that_it_lives_does_not_go_on_for_ever() -> None:
    job = _job(JobStatus.QUEUED_FOR_ANALYSIS, age_seconds=6 * 3600 - 1)
    job.meta, job.updated_at = {"analysis_progress": 20}, NOW
    assert plan_recovery(job, SETTINGS, now=NOW) is None
    job.stage_entered_at -= timedelta(seconds=2)
    plan = plan_recovery(job, SETTINGS, now=NOW)
    assert plan is not None
    assert plan.action is Action.ASK_AGAIN


def test_an_analysis_is_asked_for_four_times_at_most() -> None:
    job = _job(JobStatus.QUEUED_FOR_ANALYSIS, age_seconds=7 * 3600)
    job.deliveries = 4
    plan = plan_recovery(job, SETTINGS, now=NOW)
    assert plan is not None
    assert (plan.action, plan.code) == (Action.FAIL, "analysis_timed_out")


def _job(status: JobStatus, *, age_seconds: int) -> Job:
    since = NOW - timedelta(seconds=age_seconds)
    return Job(
        id="job",
        status=status,
        meta={},
        input={},
        deliveries=1,
        stage_entered_at=since,
        updated_at=since,
    )


def test_refusals_are_no_deaths_of_workers() -> None:
    job = Job(status=JobStatus.PROCESSING, meta={REFUSALS: 3})
    assert not is_poison(job, deliveries=5, most=2), "three refusals, one death"
    assert is_poison(job, deliveries=6, most=2)
    anew = Job(status=JobStatus.QUEUED, meta={REFUSALS: 3})
    assert is_poison(anew, deliveries=3, most=2), "what was in an earlier stage is over"


@pytest.mark.parametrize(
    ("systemic", "is_closed", "hours", "costs"),
    [
        (False, True, 0, True),
        (False, False, 1, False),
        (False, False, 3, True),
        (True, True, 3, False),
        (True, False, 3, False),
    ],
)
def test_what_may_be_the_jobs_own_fault_costs_a_try(
    *, systemic: bool, is_closed: bool, hours: int, costs: bool
) -> None:
    error = TransportError("", retryable=True, systemic=systemic)
    waited = timedelta(hours=hours)
    assert (
        costs_a_try(error, is_closed=is_closed, waited=waited, patience=timedelta(hours=2)) is costs
    )


def test_an_entry_that_cannot_be_measured_is_its_senders_problem_alone() -> None:
    batcher: MicroBatcher[str, int] = MicroBatcher(
        lambda batch: [int(entry) for entry in batch],
        name="test",
        limits=BatchLimits(entries=10, size=100, linger_seconds=0),
        size_of=lambda entry: len(str(int(entry))),
        senders=1,
    )
    with pytest.raises(ValueError, match="invalid literal"):
        batcher.submit("none")
    assert batcher.submit("7").result(timeout=60) == 7
    batcher.check()
    batcher.close()
