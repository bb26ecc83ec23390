"""More than one set of a job, on real Swift: the older wins, and what is no result is removed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from test_artifacts_sets import (
    ENTRY,
    FACTS,
    META,
    MakeWorker,
    Worker,
    files_of,
    make_worker,
)

from headrace_common.contracts.cctv import SettledJob, job_folder, run_of_folder
from headrace_gpu_preprocessor.artifacts import SwiftSettings, UnfinishedSet, WholeSet
from headrace_gpu_preprocessor.artifacts.connections import no_check
from headrace_local.waiting import wait_until

__all__ = ["make_worker"]

ROOT = job_folder("preprocess/", ENTRY.cctv_id, ENTRY.job_id)
#: Long enough ago to sort before all that is made here.
OLD = f"{ROOT}20200101T000000.000Z/"


def settled(folder: str | None, run: int = 1) -> SettledJob:
    return SettledJob(job_id=ENTRY.job_id, cctv_id=ENTRY.cctv_id, run=run, folder=folder)


def removed(kind: str) -> float:
    name = "headrace_artifact_sets_removed_total"
    return REGISTRY.get_sample_value(name, {"kind": kind}) or 0


def begin_in(worker: Worker, folder: str, upto: int = 4) -> UnfinishedSet:
    begun = worker.begin()
    begun.folder = folder
    return worker.fill(begun, upto)


def whole_folders(worker: Worker) -> list[str]:
    folders = worker.store.list_folders(ROOT)
    return [each for each in folders if worker.store.head(each + META) is not None]


def test_of_two_whole_sets_the_older_is_the_result(make_worker: MakeWorker) -> None:
    """The heir's listing lagged when it began: it did not see what the zombie had stored."""
    zombie, heir = make_worker("zombie"), make_worker("heir")
    first = begin_in(zombie, OLD).finish(FACTS)
    late = heir.fill(heir.begin())
    before = removed("whole")
    assert late.finish(FACTS) == first
    assert whole_folders(heir) == [first.folder]
    assert files_of(heir.store, late.folder) == {}
    assert removed("whole") == before + 1


def test_a_younger_whole_set_is_left_to_who_knows_the_result(make_worker: MakeWorker) -> None:
    other, early = make_worker("other"), make_worker("early")
    younger = other.fill(other.begin()).finish(FACTS)
    own = begin_in(early, OLD).finish(FACTS)
    assert whole_folders(early) == [own.folder, younger.folder]


def test_what_is_not_the_result_is_removed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    whole = worker.fill(worker.begin()).finish(FACTS)
    begin_in(worker, OLD, 2)
    zombie = begin_in(make_worker("zombie"), OLD.replace("2020", "2021"))
    zombie._winner = lambda own: own  # type: ignore[method-assign] # it was taken for dead
    zombie.finish(FACTS)
    assert len(whole_folders(worker)) == 2
    worker.sets.remove_remains(settled(whole.folder), check=no_check)
    assert worker.store.list_folders(ROOT) == [whole.folder]
    assert len(files_of(worker.store, whole.folder)) == 5


def test_nothing_is_removed_where_the_result_is_not_found(make_worker: MakeWorker) -> None:
    worker = make_worker()
    whole = worker.fill(worker.begin()).finish(FACTS)
    worker.sets.remove_remains(settled(OLD), check=no_check)
    assert whole_folders(worker) == [whole.folder]


def test_a_job_without_a_result_keeps_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.fill(worker.begin()).finish(FACTS)
    begin_in(worker, OLD, 2)
    worker.sets.remove_remains(settled(None), check=no_check)
    assert worker.store.list_names("") == []
    worker.sets.remove_remains(settled(None), check=no_check)


def test_of_a_purged_job_no_set_is_kept(make_worker: MakeWorker) -> None:
    worker = make_worker()
    whole = worker.fill(worker.begin()).finish(FACTS)
    begin_in(worker, OLD, 2)
    job = settled(whole.folder, run=2).model_copy(update={"purged": True})
    worker.sets.remove_remains(job, check=no_check)
    assert worker.store.list_names("") == []
    worker.sets.remove_remains(job, check=no_check)


def test_of_a_purged_job_a_result_under_another_prefix_goes_and_another_jobs_stays(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    moved = begin_in(worker, "before/" + OLD.partition("/")[2]).finish(FACTS)
    others = begin_in(worker, OLD.replace(ENTRY.job_id, "another")).finish(FACTS)
    for told in (others, moved):
        job = settled(told.folder).model_copy(update={"purged": True})
        worker.sets.remove_remains(job, check=no_check)
    stays = worker.store.list_names("")
    assert stays
    assert all(name.startswith(others.folder) for name in stays)


def test_each_run_has_sets_of_its_own(make_worker: MakeWorker) -> None:
    worker = make_worker()
    first = worker.fill(worker.begin()).finish(FACTS)
    begin_in(worker, OLD, 2)
    again = ENTRY.model_copy(update={"job_run": 2})
    assert worker.sets.find(again, check=no_check) is None
    second = worker.fill(worker.sets.begin(again, check=no_check)).finish(FACTS)
    assert run_of_folder(second.folder) == 2
    assert {first.folder, second.folder} == set(whole_folders(worker))
    found = worker.sets.find(again, check=no_check)
    assert isinstance(found, WholeSet)
    assert found.folder == second.folder
    assert worker.whole().folder == first.folder
    worker.sets.remove_remains(settled(second.folder, run=2), check=no_check)
    assert worker.store.list_folders(ROOT) == [first.folder, second.folder], "OLD was unfinished"
    worker.sets.remove_remains(settled(first.folder), check=no_check)
    assert len(whole_folders(worker)) == 2, "a later run is not touched"


@pytest.fixture
def frozen(swift_settings: SwiftSettings) -> Iterator["subprocess.Popen[str]"]:
    """A worker that froze just before the request that makes its set whole."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("set_child.py")), plain(swift_settings)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        status = psutil.Process(child.pid).status
        wait_until(status, lambda seen: seen == psutil.STATUS_STOPPED, seconds=240)
        yield child
    finally:
        child.kill()
        child.communicate()


def plain(settings: SwiftSettings) -> str:
    """Return settings as JSON, with their secrets."""

    def shown(value: Any) -> Any:
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    return json.dumps({name: shown(value) for name, value in settings})


def test_a_worker_that_thaws_after_another_finished_leaves_no_second_set(
    frozen: "subprocess.Popen[str]", make_worker: MakeWorker
) -> None:
    """The other's listing lagged too, so that it knew nothing of what the frozen one had stored."""
    heir = make_worker("heir")
    begun = heir.fill(heir.begin())
    begun._winner = lambda own: own  # type: ignore[method-assign] # what its listing shows
    result = begun.finish(FACTS)
    os.kill(frozen.pid, signal.SIGCONT)
    thawed, _ = frozen.communicate(timeout=120)
    assert thawed.strip() < result.folder
    assert len(whole_folders(heir)) == 2, "for a while"
    heir.sets.remove_remains(settled(result.folder), check=no_check)
    assert heir.store.list_folders(ROOT) == [result.folder]
    assert len(files_of(heir.store, result.folder)) == 5
