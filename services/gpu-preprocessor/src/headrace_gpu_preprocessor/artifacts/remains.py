"""What is in the folder of a job beside its result, and how it is removed."""

from typing import Final

import structlog

from headrace_common.contracts.cctv import ArtifactName, SettledJob, job_folder, run_of_folder
from headrace_gpu_preprocessor.artifacts.connections import Check
from headrace_gpu_preprocessor.artifacts.metrics import SETS_REMOVED
from headrace_gpu_preprocessor.artifacts.swift import SwiftStore

log = structlog.get_logger()

_META: Final = ArtifactName.PROCESS_META
#: process_meta.json first: without it the others are no set.
_IN_ORDER: Final = (_META, *(name for name in ArtifactName if name is not _META))


def folders_of_run(store: SwiftStore, root: str, run: int) -> list[str]:
    """Return the folders of one run of a job, the oldest first."""
    return [folder for folder in store.list_folders(root) if run_of_folder(folder) == run]


def remove_set(store: SwiftStore, folder: str, *, whole: bool, check: Check) -> None:
    """Remove a set.

    Args:
        store: the container.
        folder: of the set.
        whole: whether it has a process_meta.json, for the metric.
        check: called before each removal; raises to prevent it.

    Raises:
        SwiftError: Swift did not do it.
    """
    for name in _IN_ORDER:
        store.delete(folder + name, check=check)
    kind = "whole" if whole else "unfinished"
    SETS_REMOVED.labels(kind=kind).inc()
    log.info("artifacts.set_removed", folder=folder, kind=kind)


def remove_remains(store: SwiftStore, prefix: str, job: SettledJob, *, check: Check) -> None:
    """Remove every set of a run that is not its result, and what earlier runs left unfinished.

    Whole sets of earlier runs were results once, and stay. Nothing is removed where the result
    is not found: then what is known of the job is wrong. Of a purged job all sets go.

    Raises:
        SwiftError: Swift could not be asked, or did not do it.
    """
    folders = store.list_folders(job_folder(prefix, job.cctv_id, job.job_id))
    if job.purged:
        for folder in {*folders, *_elsewhere(job)}:
            remove_set(store, folder, whole=True, check=check)
        return
    if folders in ([], [job.folder]):
        return
    if job.folder is not None and store.head(job.folder + _META) is None:
        log.error("artifacts.result_missing", job_id=job.job_id, folder=job.folder)
        return
    for folder in folders:
        run = run_of_folder(folder)
        if folder == job.folder or run > job.run:
            continue
        whole = store.head(folder + _META) is not None
        if run == job.run or not whole:
            remove_set(store, folder, whole=whole, check=check)


def _elsewhere(job: SettledJob) -> list[str]:
    """Return the folder of a job's result, which with other settings had another prefix.

    What its row names, a report once said: another job's sets are not removed for that.
    """
    if job.folder is None:
        return []
    root = job.folder.rstrip("/").rpartition("/")[0] + "/"
    if f"/{root}".endswith("/" + job_folder("", job.cctv_id, job.job_id)):
        return [job.folder]
    log.error("artifacts.result_elsewhere", job_id=job.job_id, folder=job.folder)
    return []
