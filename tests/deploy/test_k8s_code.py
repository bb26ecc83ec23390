"""What the manifests name exists in the code: commands, ports, paths, settings, queues, times."""

import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from k8s_manifests import (
    EVERYTHING,
    K8S,
    OVERLAYS,
    Manifest,
    all_containers,
    containers_of,
    environment_of,
    labels_of,
    matches,
    named,
    of_kind,
    pod_of,
    render,
    secret_references,
    workloads,
)
from k8s_settings import SETTINGS, load, main_container, module_of, names_of
from opentelemetry.sdk import environment_variables

from headrace_common.contracts.cctv import DEFAULT_GROUP, DEFAULT_STREAM
from headrace_common.contracts.lanes import Lane
from headrace_common.settings import (
    ProcessSettings,
    RedisSettings,
    SqsSettings,
)
from headrace_gpu_preprocessor.settings import PreprocessorSettings

ROOT: Final = Path(__file__).parents[2]

#: What clients reach.
WAYS_IN: Final = {"ingest-api", "results", "dispatcher", "gpu-preprocessor"}

pytestmark = pytest.mark.parametrize("overlay", [*OVERLAYS, EVERYTHING])


def test_every_process_accepts_its_settings(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(overlay)
    for name, _, container in all_containers(objects):
        settings = load(monkeypatch, objects, container)
        if isinstance(settings, ProcessSettings):
            [port] = container["ports"]
            assert (settings.host, settings.port) == ("0.0.0.0", port["containerPort"]), name  # noqa: S104


def test_every_variable_is_a_setting(overlay: str) -> None:
    objects = render(overlay)
    shared: set[str] = set()
    used: set[str] = set()
    for name, _, container in all_containers(objects):
        known = names_of(SETTINGS[module_of(container)]) | names_of(ProcessSettings)
        own = {entry["name"] for entry in container["env"]}
        assert own <= known, f"{name}: {own - known}"
        everything = environment_of(objects, container).keys()
        shared |= everything - own
        used |= everything & known
    # OpenTelemetry reads its own.
    unread = shared - used - vars(environment_variables).keys()
    assert unread == set(), f"nobody reads {unread}"


def test_what_an_overlay_proposes_is_a_setting(overlay: str) -> None:
    folder = K8S / "overlays" / ("production" if overlay == EVERYTHING else overlay)
    text = (folder / "core" / "servers.env").read_text()
    proposed = set(re.findall(r"^# (\w+)=", text, re.MULTILINE))
    known = set().union(*(names_of(each) for each in SETTINGS.values()))
    assert proposed <= known | vars(environment_variables).keys()


def test_a_secrets_key_is_the_variable(overlay: str) -> None:
    references = [
        reference
        for _, _, container in all_containers(render(overlay))
        for reference in secret_references(container)
    ]
    assert references
    assert [each for each in references if each[0] != each[2]] == []


def test_commands_images_and_users_are_the_dockerfiles(overlay: str) -> None:
    for name, workload, container in all_containers(render(overlay)):
        module = module_of(container)
        assert importlib.util.find_spec(module), f"{name}: no module {module}"
        image = container["image"].rpartition("/")[2].partition(":")[0].removesuffix("-cuda")
        folder = "examples" if image == "speech-analysis-server" else "services"
        dockerfile = (ROOT / folder / image / "Dockerfile").read_text()
        user = pod_of(workload)["spec"]["securityContext"]
        assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in dockerfile
        if module.startswith("headrace_common."):
            assert "libs/common[service]" in dockerfile
        else:
            assert f'CMD ["python", "-m", "{module}"]' in dockerfile


def test_what_runs_first_waits_for_the_schema(overlay: str) -> None:
    # Whoever has the tables open waits; the gpu-preprocessor reads keys, and does without.
    objects = render(overlay)
    waiting = {
        each["metadata"]["name"]
        for each in of_kind(objects, "Deployment")
        for container in pod_of(each)["spec"].get("initContainers", [])
        if module_of(container) == "headrace_common.db.await_schema"
    }
    assert waiting == {"ingest-api", "dispatcher", "scheduler", "results"}
    [job] = of_kind(objects, "Job")
    assert [module_of(each) for each in containers_of(job)] == ["headrace_common.db"]


def test_urls_inside_lead_to_services_and_routes(overlay: str) -> None:
    objects = render(overlay)
    env = environment_of(objects, main_container(objects, "dispatcher"))
    assert env["WEBHOOK_URL"] == f"http://{_address(objects, 'results')}/webhooks/analysis"
    assert "/webhooks/analysis" in _routes("results")
    # With SQS too: it is the other side of the roll-out, and the way back.
    address = _address(objects, "speech-analysis-server")
    assert env["ANALYSIS_SERVER_URL"] == f"http://{address}/analyze"
    analysis = environment_of(objects, main_container(objects, "speech-analysis-server"))
    assert analysis["CALLBACK_ALLOWED_HOSTS"] == _address(objects, "results")


def _address(objects: list[Manifest], service: str) -> str:
    [port] = named(objects, "Service", service)["spec"]["ports"]
    return f"{service}:{port['port']}"


def _routes(service: str) -> set[str]:
    page = ROOT / "docs" / "reference" / "openapi" / f"{service}.json"
    return set(json.loads(page.read_text())["paths"])


def test_outside_reaches_every_route_but_health(overlay: str) -> None:
    ways = dict(_ways_in(render(overlay)))
    assert {name for _, name in ways} == (set() if overlay == "dev" else WAYS_IN)
    for (_, name), paths in ways.items():
        routes = _routes(name)
        outside = {
            route for route in routes if any(f"{route}/".startswith(f"{path}/") for path in paths)
        }
        health = {route for route in routes if route.startswith("/health")}
        assert health
        assert outside == routes - health
        for path in paths:
            assert any(f"{route}/".startswith(f"{path}/") for route in routes), path


def _ways_in(objects: list[Manifest]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Yield the paths that are open to the outside, by what opens them."""
    for each in of_kind(objects, "Ingress", "HTTPRoute"):
        [rule] = each["spec"]["rules"]
        if each["kind"] == "Ingress":
            paths = [path["path"] for path in rule["http"]["paths"]]
        else:
            paths = [match["path"]["value"] for match in rule["matches"]]
        yield (each["kind"], each["metadata"]["name"]), paths


def test_queues_that_are_counted_are_ours(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(overlay)
    if not of_kind(objects, "ScaledObject"):
        assert overlay == "dev"
        return
    lanes = _triggers(objects, "dispatcher")
    namespace = RedisSettings.model_fields["dramatiq_namespace"].default
    assert {each["listName"] for each in lanes.values()} == {
        f"{namespace}:{lane.queue_name}" for lane in Lane
    }
    assert lanes.keys() == set(Lane)
    cameras = load(monkeypatch, objects, main_container(objects, "gpu-preprocessor"))
    assert isinstance(cameras, PreprocessorSettings)
    for each in _triggers(objects, "gpu-preprocessor").values():
        assert (each["stream"], each["consumerGroup"]) == (DEFAULT_STREAM, DEFAULT_GROUP)
        assert (cameras.redis_stream, cameras.redis_group) == (DEFAULT_STREAM, DEFAULT_GROUP)
    advanced = named(objects, "ScaledObject", "gpu-preprocessor")["spec"]["advanced"]
    assert advanced["scalingModifiers"]["target"] == str(cameras.max_concurrency)
    queues = {
        name: each["queueURLFromEnv"]
        for name, each in _triggers(objects, "speech-analysis-server").items()
    }
    assert queues == {
        Lane.HIGH: "SQS_QUEUE_URL_HIGH",
        Lane.NORMAL: "SQS_QUEUE_URL",
        Lane.LOW: "SQS_QUEUE_URL_LOW",
    }
    assert set(queues.values()) <= names_of(SqsSettings)
    known = environment_of(objects, main_container(objects, "speech-analysis-server"))
    assert set(queues.values()) <= known.keys()


def _triggers(objects: list[Manifest], name: str) -> dict[str, dict[str, Any]]:
    spec = named(objects, "ScaledObject", name)["spec"]
    return {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"]}


def test_metrics_are_asked_where_they_are(overlay: str) -> None:
    objects = render(overlay)
    for monitor in of_kind(objects, "PodMonitor"):
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["path"] == "/metrics"
        seen = {
            each["metadata"]["name"]
            for each in workloads(objects)
            if matches(monitor["spec"]["selector"], labels_of(each))
            for container in pod_of(each)["spec"]["containers"]
            if endpoint["port"] in {port["name"] for port in container.get("ports", [])}
        }
        assert seen == {each["metadata"]["name"] for each in of_kind(objects, "Deployment")}
        assert all(monitor["spec"]["jobLabel"] in labels_of(each) for each in workloads(objects))
