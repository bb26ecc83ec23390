"""Stacks that are otherwise than by themselves: settings, replicas, proxies in front."""

import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from local_harness import HTTP_SERVICE, StartStack

from headrace_local import control
from headrace_local.errors import NoStackError
from headrace_local.openstack import ask_token
from headrace_local.overrides import OVERRIDES_VARIABLE, Overrides
from headrace_local.parts import ALL_PARTS, services_of
from headrace_local.services import DEFAULT_SERVICES, Service, ServiceSpec, replicated
from headrace_local.unit import RestartPolicy

_PROXIES = {"valkey": 4001, "postgres": 4002, "s3": 4003, "sqs": 4004, "results": 4005}


def test_replicas_have_names_of_their_own_and_the_first_keeps_the_endpoint() -> None:
    specs = replicated(services_of(ALL_PARTS), {"dispatcher": 2, "results": 3})

    assert [spec.name for spec in specs if spec.name.startswith(("dispatcher", "results"))] == [
        *("dispatcher", "dispatcher-2"),
        *("results", "results-2", "results-3"),
    ]
    assert [spec.endpoint for spec in specs].count("results_url") == 1
    assert len({spec.env.get("CONSUMER_NAME") for spec in specs if "-2" in spec.name}) == 2


def test_a_replica_of_an_unknown_service_is_refused() -> None:
    with pytest.raises(NoStackError, match="dispatchr"):
        replicated(DEFAULT_SERVICES, {"dispatchr": 2})


def test_a_tireless_policy_never_gives_up() -> None:
    assert RestartPolicy(delays=(1, 2)).delay(3) is None
    assert RestartPolicy(delays=(1, 2), tireless=True).delay(1_000) == 2


@pytest.mark.stack
def test_settings_go_to_every_replica_and_not_onto_the_command_line(
    start_stack: StartStack,
) -> None:
    state = start_stack(
        servers=["valkey"],
        services=replicated([HTTP_SERVICE], {"files": 2}),
        overrides=Overrides(settings={"REDIS_PASSWORD": "of-my-own", "LOST_AFTER_SECONDS": "3"}),
    ).state

    for name in ("files", "files-2"):
        record = state.process(name)
        assert record is not None
        assert record.pid is not None
        assert httpx.get(record.url, timeout=30).status_code == 200
        environment = psutil.Process(record.pid).environ()
        assert environment["REDIS_PASSWORD"] == "of-my-own"
        assert environment["LOST_AFTER_SECONDS"] == "3"
        assert OVERRIDES_VARIABLE not in environment
    assert state.supervisor is not None
    assert "of-my-own" not in " ".join(psutil.Process(state.supervisor.pid).cmdline())


@pytest.mark.stack
def test_services_are_sent_to_the_proxies(start_stack: StartStack) -> None:
    state = start_stack(
        servers=["valkey", "sqs"],
        services=[HTTP_SERVICE],
        overrides=Overrides(advertised=_PROXIES),
    ).state
    urls = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "SQS_ENDPOINT_URL", "WEBHOOK_URL")

    assert [urlsplit(state.env[name]).port for name in urls] == [4002, 4001, 4003, 4004, 4005]
    assert urlsplit(state.env["SQS_QUEUE_URL_HIGH"]).port == 4004
    assert set(_PROXIES.values()).isdisjoint(state.ports.values())


@pytest.mark.stack
def test_the_catalogue_names_the_proxy_of_the_object_store(start_stack: StartStack) -> None:
    """And Swift becomes ready though nothing listens there."""
    state = start_stack(
        servers=["swift"], services=False, overrides=Overrides(advertised={"swift": 4_006})
    ).state

    token = ask_token(state.env["OS_AUTH_URL"], password=state.env["OS_PASSWORD"])

    assert urlsplit(token.object_store_url).port == 4_006
    assert urlsplit(state.env["SWIFT_STORAGE_URLS"]).port == 4_006


@pytest.mark.stack
def test_a_hurried_end_waits_for_no_grace(directory: Path, start_stack: StartStack) -> None:
    deaf = ServiceSpec(
        name="deaf",
        command=(
            *(sys.executable, "-c"),
            "import signal, http.server as s; signal.signal(15, signal.SIG_IGN);"
            "s.test(s.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')",
        ),
        health_path="/",
    )
    start_stack(servers=[], services=[deaf])
    began = time.monotonic()

    assert control.down(directory, hurried=True)
    assert time.monotonic() - began < Service.stop_grace / 2
