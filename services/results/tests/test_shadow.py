"""Answers to copies of jobs: kept, compared, and never applied."""

import json
import uuid
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue
from results_harness import PATH, Bench, Replica

from headrace_common.contracts import JobStatus
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.db import ShadowRun
from headrace_local.waiting import wait_until
from headrace_results.differences import Tolerance, differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def found(own: JsonValue, shadow: JsonValue, **tolerance: Any) -> list[tuple[str, Any, Any]]:
    return [
        (one.pointer, one.own, one.shadow)
        for one in differences(own, shadow, Tolerance(**tolerance))
    ]


@given(JSON)
def test_a_value_equals_itself(value: JsonValue) -> None:
    assert found(value, json.loads(json.dumps(value))) == []


@given(st.dictionaries(st.text(max_size=3), JSON), st.text(max_size=3), JSON)
def test_a_member_more_is_told_by_its_pointer(
    own: dict[str, JsonValue], key: str, value: JsonValue
) -> None:
    without = {name: item for name, item in own.items() if name != key}
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    assert [one[0] for one in found(without, {**without, key: value})] == [pointer]


def test_numbers_differ_beyond_the_tolerance() -> None:
    assert found({"a": 1.0, "b": 100}, {"a": 1.0000001, "b": 101}) == [("/b", "100", "101")]
    assert found({"b": 100}, {"b": 101}, relative=0.02) == []
    assert found({"b": True}, {"b": 1}) == [("/b", "True", "1")]


def test_what_is_ignored_may_differ() -> None:
    own: JsonValue = {"a": [{"took": 1, "x": 1}]}
    assert found(own, {"a": [{"took": 2, "x": 1}]}, ignored=frozenset({"took"})) == []


def test_lists_of_other_lengths_are_one_difference() -> None:
    assert found({"a": [1, 2]}, {"a": [1]}) == [("/a", "2 items", "1 items")]


@pytest.fixture
def replica(replicas: list[Replica]) -> Replica:
    return replicas[0]


@pytest.fixture
def copied(bench: Bench) -> str:
    """A job that a copy was sent of."""
    job_id = bench.job()
    with bench.database.begin() as session:
        session.add(ShadowRun(job_id=job_id, transport="sqs"))
    return job_id


def compared(bench: Bench, job_id: str) -> ShadowRun:
    def run() -> ShadowRun | None:
        with bench.database.begin() as session:
            found = session.get(ShadowRun, job_id)
        return found if found is not None and found.differences is not None else None

    return wait_until(run)


def completed(**result: JsonValue) -> dict[str, JsonValue]:
    return {"status": "completed", "result": result}


@pytest.mark.stack
@pytest.mark.parametrize("first", ["job", "copy"])
def test_both_answers_are_compared_in_any_order(
    bench: Bench, replica: Replica, copied: str, first: str
) -> None:
    reports = {
        copied: completed(pitch=100, url=f"s3://b/{copied}/plot.png"),
        copied + SHADOW_SUFFIX: completed(pitch=120, url=f"s3://b/{copied}.shadow/plot.png"),
    }
    order = sorted(reports, key=lambda job_id: (job_id == copied) != (first == "job"))
    for job_id in order:
        answer = bench.report(replica, job_id, reports[job_id])
        assert (answer.status_code, answer.json()["stop"]) == (202, False)
        assert bench.outcomes(job_id) == ["applied" if job_id == copied else "shadow: answered"]
    run = compared(bench, copied)
    assert (run.status, run.same) == ("completed", False)
    assert run.differences == {
        "listed": [{"pointer": "/result/pitch", "own": "100", "shadow": "120"}],
        "more": False,
    }
    assert bench.view(copied).result == {"pitch": 100, "url": f"s3://b/{copied}/plot.png"}
    assert [event.message for event in bench.events(copied)][-1] == "The analysis is completed"


@pytest.mark.stack
def test_a_copy_reports_with_its_own_token_and_nobody_elses(
    bench: Bench, replica: Replica, copied: str
) -> None:
    def post(token: str) -> int:
        return httpx.post(
            f"{replica.url}{PATH}",
            params={"job_id": copied + SHADOW_SUFFIX, "token": token},
            json={"status": "failed", "error": {"code": "bad", "message": "no"}},
            timeout=30,
        ).status_code

    assert post(bench.token(copied)) == 401
    assert post(bench.token(copied + SHADOW_SUFFIX)) == 202
    assert bench.outcomes(copied + SHADOW_SUFFIX) == ["shadow: answered"]
    assert bench.view(copied).status == JobStatus.QUEUED_FOR_ANALYSIS
    bench.change(copied, JobStatus.COMPLETED)
    run = compared(bench, copied)
    assert run.differences is not None
    assert run.differences["listed"][0]["pointer"] == "/status"


@pytest.mark.stack
def test_a_copy_of_a_cancelled_job_is_told_to_stop(
    bench: Bench, replica: Replica, copied: str
) -> None:
    bench.change(copied, JobStatus.CANCELLED)
    answer = bench.report(replica, copied + SHADOW_SUFFIX, completed())
    assert answer.json()["stop"]
    run = compared(bench, copied)
    assert (run.same, run.differences) == (None, {"not_compared": "the job is cancelled"})


@pytest.mark.stack
def test_a_copy_that_nobody_sent_is_ignored(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    assert bench.report(replica, job_id + SHADOW_SUFFIX, completed()).status_code == 202
    assert bench.outcomes(job_id + SHADOW_SUFFIX) == ["ignored: no copy of this job was sent"]
    unknown = f"job-{uuid.uuid4()}{SHADOW_SUFFIX}"
    assert bench.report(replica, unknown, completed()).status_code == 404
    assert bench.view(job_id).status == JobStatus.QUEUED_FOR_ANALYSIS
