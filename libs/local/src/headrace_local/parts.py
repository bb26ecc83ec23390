"""The two halves of the product, each of which runs without the other."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from headrace_local.services import (
    ANALYSIS,
    DEFAULT_SERVICES,
    DISPATCHER,
    INGEST,
    PREPROCESSOR,
    RESULTS,
    ServiceSpec,
)


class Part(StrEnum):
    """A half of the product."""

    AUDIO = "audio"
    CCTV = "cctv"


Services = bool | Sequence[ServiceSpec]

#: Both: `headrace up` without more.
ALL_PARTS: Final = tuple(Part)

#: S3 for the camera path too: the ingest service stands on it.
_SERVERS: Final = {
    Part.AUDIO: ("valkey", "postgres", "s3", "sqs"),
    Part.CCTV: ("valkey", "postgres", "s3", "keystone", "swift"),
}
#: The dispatcher drives the schedules and their house-keeping, of the camera path too.
_SERVICES: Final = {
    Part.AUDIO: {INGEST, DISPATCHER, RESULTS, ANALYSIS},
    Part.CCTV: {INGEST, DISPATCHER, RESULTS, PREPROCESSOR},
}


def servers_of(parts: Iterable[Part]) -> tuple[str, ...]:
    """Return the names of the servers that these parts stand on."""
    return tuple(dict.fromkeys(name for part in parts for name in _SERVERS[part]))


def services_of(parts: Iterable[Part]) -> tuple[ServiceSpec, ...]:
    """Return the services of these parts, in the order in which they start."""
    wanted = {name for part in parts for name in _SERVICES[part]}
    return tuple(spec for spec in DEFAULT_SERVICES if spec.name in wanted)


def chosen_services(services: Services, parts: Iterable[Part]) -> tuple[ServiceSpec, ...]:
    """Return the services that the arguments of `control.up` mean."""
    if isinstance(services, bool):
        return services_of(parts) if services else ()
    return tuple(services)


def chosen_servers(servers: Sequence[str] | None, parts: Iterable[Part]) -> tuple[str, ...]:
    """Return the servers that the arguments of `control.up` mean."""
    return servers_of(parts) if servers is None else tuple(servers)
