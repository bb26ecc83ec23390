"""What a schedule names outside of itself: its target, the target's parameters, and what they mean.

Looked up when a schedule is made or changed, so that a slip of the pen is told at once. What is
removed later makes firings fail, each with a reason.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobKind
from headrace_common.contracts.schedules import (
    PREPROCESS,
    REANALYSE,
    TargetContract,
    target_contracts,
)
from headrace_common.db import Camera, Job, is_storable
from headrace_dispatcher.scheduling.faults import Fault, InvalidFieldsError, faults_below


@dataclass(frozen=True)
class Target:
    """What a schedule fires at.

    Attributes:
        params: as they are stored and sent.
        key: what limits and overlaps are counted by.
    """

    contract: TargetContract
    params: dict[str, Any]
    key: str


def find_target(session: Session, name: str, params: Mapping[str, Any]) -> Target:
    """Return the target that a request means.

    Raises:
        InvalidFieldsError: there is none of that name, its parameters are wrong, or what they
            name does not exist.
    """
    contract = find_contract(name)
    with faults_below("params"):
        read = contract.params.model_validate(dict(params))
    stored = read.model_dump(mode="json", exclude_unset=True)
    if not is_storable(json.dumps(stored, ensure_ascii=False)):
        raise InvalidFieldsError(Fault("params", "must not have NUL or halves of surrogate pairs"))
    check = _CHECKS.get(contract.name)
    fault = check(session, read) if check else None
    if fault is not None:
        raise InvalidFieldsError(fault)
    return Target(contract, stored, contract.key(read))


def find_contract(name: str) -> TargetContract:
    """Return the declared target of that name.

    Raises:
        InvalidFieldsError: there is none.
    """
    known = target_contracts()
    if name not in known:
        raise InvalidFieldsError(
            Fault("target", f"there is no target {name[:100]!r}, but {', '.join(known)}")
        )
    return known[name]


def _check_camera(session: Session, params: Any) -> Fault | None:
    name = params.camera
    if session.get(Camera, name) is not None:
        return None
    return Fault("params.camera", f"no camera {name!r} is registered")


def _check_recording(session: Session, params: Any) -> Fault | None:
    job_id = params.job_id
    kind = session.scalar(select(Job.kind).where(Job.id == job_id))
    if kind == JobKind.AUDIO_ANALYSIS:
        return None
    return Fault("params.job_id", f"there is no audio job {job_id!r}")


_CHECKS: Final[Mapping[str, Callable[[Session, BaseModel], Fault | None]]] = {
    PREPROCESS.name: _check_camera,
    REANALYSE.name: _check_recording,
}
