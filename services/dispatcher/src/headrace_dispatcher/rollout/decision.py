"""Which side a job is on: a stable decision by its id alone, the same in every process."""

import hashlib
from typing import Final

from headrace_dispatcher.transports import TransportName

#: Steps of a per cent: 0.01 per cent is the smallest share.
_BUCKETS: Final = 10_000
#: Makes the jobs that are copied a sample of both sides, not the first of one.
_SHADOW_SALT: Final = "shadow:"


def place_of(key: str) -> float:
    """Return where `key` lies in [0, 100), in steps of 0.01; evenly spread and for ever the same.

    SHA-256, because Python's own hash differs from process to process.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _BUCKETS * 100 / _BUCKETS


def side_of(job_id: str, *, sqs_percent: float) -> TransportName:
    """Decide how a job goes.

    Raising the percentage only moves jobs from HTTP to SQS, lowering it only back.
    """
    return TransportName.SQS if place_of(job_id) < sqs_percent else TransportName.HTTP


def is_shadowed(job_id: str, *, shadow_percent: float) -> bool:
    """Decide whether a copy of a job goes to the other side too."""
    return place_of(_SHADOW_SALT + job_id) < shadow_percent


def other_side(name: TransportName) -> TransportName:
    """Return the other of the two."""
    return TransportName.HTTP if name is TransportName.SQS else TransportName.SQS
