"""What k8s/base has as Deployments, as services of the local stack."""

from collections.abc import Sequence
from typing import Final

from headrace_local.parts import Part, services_of
from headrace_local.services import DISPATCHER, ServiceSpec

#: The Deployment of the dispatcher's image that leads the schedules.
SCHEDULER: Final = "scheduler"
#: DISPATCHER_ROLES of the two, with which each is scaled by itself.
_ROLES: Final = {DISPATCHER: "lanes", SCHEDULER: "scheduler"}


def deployments(parts: Sequence[Part]) -> tuple[ServiceSpec, ...]:
    """Return the Deployments of these halves, each once."""
    specs = []
    for spec in services_of(parts):
        specs.append(_with_role(spec))
        if spec.name == DISPATCHER:
            specs.append(_with_role(spec.model_copy(update={"name": SCHEDULER, "endpoint": None})))
    return tuple(specs)


def names_of(service: str, names: Sequence[str]) -> list[str]:
    """Return those of `names` that are replicas of a service, the first one first."""
    return [name for name in names if name == service or name.removeprefix(f"{service}-").isdigit()]


def _with_role(spec: ServiceSpec) -> ServiceSpec:
    if spec.name not in _ROLES:
        return spec
    return spec.model_copy(update={"env": {**spec.env, "DISPATCHER_ROLES": _ROLES[spec.name]}})
