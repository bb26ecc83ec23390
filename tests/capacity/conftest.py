"""A measurement with round figures, and the one that is committed."""

import pytest
from headrace_capacity.fit import Costs, fit
from headrace_capacity.measurement import (
    COMMANDS,
    COMMITS,
    POSTGRES,
    REDIS,
    ROWS,
    SWIFT,
    WAL_BYTES,
    WRITES,
    Conditions,
    Held,
    Measurement,
    Phase,
    Service,
    Work,
    cpu_of,
    load,
)

#: Of one piece: processor seconds of its own service and of Postgres, and rows.
_OF_UPLOAD = {
    cpu_of(Service.INGEST): 0.02,
    cpu_of(POSTGRES): 0.005,
    COMMITS: 8.0,
    WRITES: 4.0,
    WAL_BYTES: 8_000.0,
    COMMANDS: 10.0,
    cpu_of(REDIS): 0.001,
    f"{ROWS}jobs": 1.0,
    f"{ROWS}job_events": 3.0,
}
_OF_JOB = {
    cpu_of(Service.DISPATCHER): 0.01,
    cpu_of(Service.RESULTS): 0.01,
    cpu_of(Service.ANALYSIS): 0.004,
    cpu_of(POSTGRES): 0.005,
    WRITES: 6.0,
    WAL_BYTES: 12_000.0,
    COMMANDS: 30.0,
    f"{ROWS}job_events": 3.0,
    f"{ROWS}webhook_inbox": 1.0,
}
_OF_CLIP = {
    cpu_of(Service.PREPROCESSOR): 1.0,
    cpu_of(Service.RESULTS): 0.05,
    cpu_of(Service.INGEST): 0.01,
    WRITES: 20.0,
    f"{ROWS}jobs": 1.0,
    f"{SWIFT}put": 6.0,
}
#: A pod and the installation, a second.
_IDLE = {cpu_of(service): 0.05 for service in Service}
_PER_DISPATCHER = {WRITES: 2.0, COMMANDS: 100.0}
_OWN = {WRITES: 1.0}


def _phase(name: str, work: dict[Work, float], pods: dict[Service, int]) -> Phase:
    seconds = 10.0
    used = {cpu_of(each): _IDLE[cpu_of(each)] * count * seconds for each, count in pods.items()}
    for resource, cost in _OWN.items():
        used[resource] = cost * seconds
    for resource, cost in _PER_DISPATCHER.items():
        more = cost * pods[Service.DISPATCHER] * seconds
        used[resource] = used.get(resource, 0.0) + more
    pieces = (
        (Work.UPLOAD, _OF_UPLOAD),
        (Work.JOB_SQS, _OF_JOB),
        (Work.CAMERA_JOB, _OF_CLIP),
        (Work.UPLOAD_MIB, {cpu_of(Service.INGEST): 0.004}),
        (Work.CAMERA_SECOND, {cpu_of(Service.PREPROCESSOR): 0.05}),
        (Work.FIRING, {cpu_of(Service.DISPATCHER): 0.005, f"{ROWS}firings": 1.0}),
    )
    for kind, costs in pieces:
        for resource, cost in costs.items():
            used[resource] = used.get(resource, 0.0) + cost * work.get(kind, 0.0)
    return Phase(name=name, seconds=seconds, pods=pods, work=work, used=used)


@pytest.fixture(scope="session")
def round_figures() -> Measurement:
    one = dict.fromkeys(Service, 1)
    idle, pods = [_phase("idle", {}, one)], one
    for service in Service:
        pods = {**pods, service: 2}
        idle.append(_phase(f"+ {service}", {}, pods))
    work = [
        _phase("uploads", {Work.UPLOAD: 100, Work.UPLOAD_MIB: 2}, one),
        _phase("large", {Work.UPLOAD: 8, Work.UPLOAD_MIB: 128, Work.JOB_SQS: 8}, one),
        _phase("jobs", {Work.UPLOAD: 100, Work.UPLOAD_MIB: 2, Work.JOB_SQS: 100}, one),
        _phase("firings", {Work.FIRING: 100, Work.JOB_SQS: 100}, one),
        _phase("short", {Work.CAMERA_JOB: 10, Work.CAMERA_SECOND: 20}, one),
        _phase("long", {Work.CAMERA_JOB: 10, Work.CAMERA_SECOND: 100}, one),
    ]
    mixed = {Work.UPLOAD: 50.0, Work.UPLOAD_MIB: 30.0, Work.JOB_SQS: 50.0, Work.CAMERA_JOB: 5.0}
    return Measurement(
        conditions=Conditions(
            commit="none",
            date="2026-11-26",
            cpu="round",
            cores=1,
            python="3.11",
            postgres="18",
            redis="9",
        ),
        idle=idle,
        work=work,
        proof=_phase("proof", mixed, pods),
        held=Held(
            redis_bytes_per_waiting_job=500,
            redis_bytes_per_camera_entry=300,
            postgres_connections={**dict.fromkeys(Service, 5), Service.ANALYSIS: 0},
            postgres_bytes_per_row={
                "jobs": 2_000,
                "job_events": 250,
                "webhook_inbox": 750,
                "firings": 500,
            },
            swift_bytes_per_camera_job=500_000,
            memory_mib=dict.fromkeys(Service, 100.0),
            memory_mib_per_stream=0.1,
        ),
        held_proof=510,
        burst_cpu_seconds_per_dispatch=0.008,
        commits_per_second=2_000,
        full_page_factor=2,
    )


@pytest.fixture(scope="session")
def round_costs(round_figures: Measurement) -> Costs:
    return fit(round_figures)


@pytest.fixture(scope="session")
def committed() -> Measurement:
    return load()
