"""What a load needs, of everything."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace_capacity import stores
from headrace_capacity.fit import Costs
from headrace_capacity.load import Load, Plan
from headrace_capacity.measurement import Measurement, Service
from headrace_capacity.pods import Pods, pods_of


@dataclass(frozen=True)
class Need:
    """Pods of the services that have work, and what the servers bear."""

    pods: Mapping[Service, Pods]
    postgres: stores.PostgresNeed
    redis: stores.RedisNeed
    cloud: stores.CloudNeed
    flows: stores.FlowNeed


def need_of(load: Load, plan: Plan, measured: Measurement, costs: Costs) -> Need:
    """Compute it."""
    pods = {
        service: pods_of(service, load, plan, costs, measured.held)
        for service in Service
        if _has_work(service, load)
    }
    peak = {service: pods[service].peak if service in pods else 0 for service in Service}
    mean = {service: pods[service].mean if service in pods else 0 for service in Service}
    return Need(
        pods=pods,
        postgres=stores.postgres(load, plan, measured, costs, peak),
        redis=stores.redis(load, plan, measured, costs, peak),
        cloud=stores.cloud(load, plan, mean),
        flows=stores.flows(load, measured, costs),
    )


def _has_work(service: Service, load: Load) -> bool:
    if service is Service.ANALYSIS:
        return load.jobs_per_day > 0
    return service is not Service.PREPROCESSOR or load.cameras > 0
