"""Which files of a job there are to be shown."""

from datetime import UTC, datetime

import pytest

from headrace_common.contracts.analysis import ARTIFACTS_EXPIRED
from headrace_common.db import Job
from headrace_results.artifacts import RECORDING, artifact_url


def job(**fields: object) -> Job:
    values = {
        "run": 2,
        "meta": {},
        "input": {"s3_audio_url": "s3://b/a.wav"},
        "result": {"artifacts": {"plot": "s3://b/plot.png"}},
        **fields,
    }
    return Job(**values)


@pytest.mark.parametrize(("run", "shown"), [(1, "s3://b/plot.png"), (2, None)])
def test_artefacts_that_expired_are_not_shown_and_those_of_a_later_run_are(
    run: int, shown: str | None
) -> None:
    expired = job(meta={ARTIFACTS_EXPIRED: {"run": run, "at": "2026-11-26T00:00:00Z"}})
    assert artifact_url(expired, "plot") == shown
    assert artifact_url(expired, RECORDING) == "s3://b/a.wav"


def test_of_a_job_that_is_being_purged_nothing_is_shown() -> None:
    assert artifact_url(job(), "plot") == "s3://b/plot.png"
    purged = job(discard_at=datetime.now(UTC))
    assert artifact_url(purged, "plot") is artifact_url(purged, RECORDING) is None
