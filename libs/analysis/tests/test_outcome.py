import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_analysis.outcome import (
    AnalysisOutcome,
    Failure,
    ReportOutcome,
    Settlement,
    StopReason,
    after_report,
    plan,
    retry_delay,
)
from headrace_analysis.reporting import report_id
from headrace_analysis.webhook import outcome_of_status

DONE = AnalysisOutcome({})
FINAL = Failure("bad", "bad", retryable=False)
PASSING = Failure("busy", "busy", retryable=True)


@pytest.mark.parametrize(
    ("end", "last", "reports", "settlement"),
    [
        (DONE, False, True, Settlement.DELETE),
        (DONE, True, True, Settlement.DELETE),
        (FINAL, False, True, Settlement.DELETE),
        (FINAL, True, True, Settlement.DELETE),
        (PASSING, False, False, Settlement.RETRY),
        (PASSING, True, True, Settlement.HAND_BACK),
        (StopReason.LEASE_LOST, False, False, Settlement.FORGET),
        (StopReason.LEASE_LOST, True, False, Settlement.FORGET),
        (StopReason.JOB_GONE, False, False, Settlement.DELETE),
        (StopReason.TIME_LIMIT, False, False, Settlement.RETRY),
        (StopReason.TIME_LIMIT, True, True, Settlement.HAND_BACK),
        (StopReason.SHUTDOWN, False, False, Settlement.HAND_BACK),
        (StopReason.SHUTDOWN, True, True, Settlement.HAND_BACK),
    ],
)
def test_what_follows_from_an_end(
    end: AnalysisOutcome | Failure | StopReason,
    last: bool,  # noqa: FBT001
    reports: bool,  # noqa: FBT001
    settlement: Settlement,
) -> None:
    planned = plan(end, last_attempt=last)
    assert (planned.report is not None, planned.settlement) == (reports, settlement)


@pytest.mark.parametrize("last", [True, False])
def test_a_message_is_deleted_only_after_its_answer_is_taken(last: bool) -> None:  # noqa: FBT001
    def settled(outcome: ReportOutcome) -> Settlement:
        return after_report(Settlement.DELETE, outcome, last_attempt=last)

    assert settled(ReportOutcome.DELIVERED) is Settlement.DELETE
    assert settled(ReportOutcome.GONE) is Settlement.DELETE
    left = Settlement.HAND_BACK if last else Settlement.RETRY
    assert settled(ReportOutcome.REFUSED) is left
    assert settled(ReportOutcome.UNREACHABLE) is left


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"), (202, "delivered"), (204, "delivered"), (302, "refused"),
        (400, "refused"), (401, "refused"), (404, "gone"), (408, "unreachable"), (410, "gone"),
        (422, "refused"), (429, "unreachable"), (500, "unreachable"), (503, "unreachable"),
    ],
)  # fmt: skip
def test_what_a_status_says(status: int, outcome: str) -> None:
    assert outcome_of_status(status).value == outcome


@given(st.integers(1, 1_000), st.floats(0.1, 100), st.floats(100, 43_200), st.floats(0, 1))
def test_delays_stay_within_their_bounds(
    attempt: int, base: float, most: float, jitter: float
) -> None:
    delay = retry_delay(attempt, base=base, most=most, jitter=jitter)
    assert base / 2 <= delay <= most


def test_delays_double() -> None:
    delays = [retry_delay(n, base=10, most=600, jitter=1) for n in range(1, 9)]
    assert delays == [10, 20, 40, 80, 160, 320, 600, 600]


def test_report_ids_are_the_same_for_the_same_report_only() -> None:
    one = report_id("j", delivery="m", kind="completed", attempt=1)
    assert one == report_id("j", delivery="m", kind="completed", attempt=1)
    others = {
        report_id("k", delivery="m", kind="completed", attempt=1),
        report_id("j", delivery="n", kind="completed", attempt=1),
        report_id("j", delivery="m", kind="failed", attempt=1),
        report_id("j", delivery="m", kind="completed", attempt=2),
    }
    assert len(others | {one}) == 5
