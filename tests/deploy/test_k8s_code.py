"""What the manifests name exists in the code: commands, ports, paths, settings, queues, times."""

import importlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest
from k8s_manifests import (
    OVERLAYS,
    Manifest,
    all_containers,
    containers_of,
    environment_of,
    filled_environment,
    labels_of,
    matches,
    named,
    of_kind,
    pod_of,
    render,
    secret_references,
    workloads,
)
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from headrace_common.contracts.cctv import DEFAULT_GROUP, DEFAULT_STREAM, MAX_CLIP_SECONDS
from headrace_common.contracts.lanes import Lane
from headrace_common.settings import (
    DatabaseSettings,
    ProcessSettings,
    RedisSettings,
    SettingsGroup,
    SqsSettings,
)
from headrace_dispatcher.settings import DispatcherSettings
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_ingest_api.settings import IngestSettings
from headrace_results.settings import ResultsSettings
from speech_analysis_server.settings import SpeechSettings

ROOT: Final = Path(__file__).parents[2]

#: The settings that a module reads, by what its command names.
SETTINGS: Final[dict[str, type[SettingsGroup]]] = {
    "headrace_ingest_api": IngestSettings,
    "headrace_dispatcher": DispatcherSettings,
    "headrace_results": ResultsSettings,
    "headrace_gpu_preprocessor": PreprocessorSettings,
    "speech_analysis_server": SpeechSettings,
    "headrace_common.db": DatabaseSettings,
    "headrace_common.db.await_schema": DatabaseSettings,
}
#: Times SHUTDOWN_GRACE_SECONDS that a stop may take one after the other: requests, then what is in
#: hand, then what runs beside it. The gpu-preprocessor has one deadline for all.
STOPS: Final = {
    "ingest-api": 1,
    "dispatcher": 2,
    "scheduler": 2,
    "results": 3,
    "gpu-preprocessor": 1,
    "speech-analysis-server": 2,
}
#: For what has a time of its own, and to close connections.
STOP_MARGIN_SECONDS: Final = 30

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def module_of(container: Manifest) -> str:
    python, flag, module = container["command"]
    assert (python, flag) == ("python", "-m")
    return str(module)


def names_of(settings: type[SettingsGroup]) -> set[str]:
    """Return the variables that a class reads."""
    return {name for field, info in settings.model_fields.items() for name in _names(field, info)}


def _names(field: str, info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices]
    return [field.upper()]


def load(
    monkeypatch: pytest.MonkeyPatch, objects: list[Manifest], container: Manifest
) -> SettingsGroup:
    """Read the settings of a container as its process would."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in filled_environment(objects, container).items():
        monkeypatch.setenv(name, value)
    return SETTINGS[module_of(container)].load()


def main_container(objects: list[Manifest], name: str) -> Manifest:
    container: Manifest = pod_of(named(objects, "Deployment", name))["spec"]["containers"][0]
    return container


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
    assert shared <= used, f"nobody reads {shared - used}"


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


def test_a_pod_gets_the_time_that_its_stop_takes(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(overlay)
    for deployment in of_kind(objects, "Deployment"):
        name = deployment["metadata"]["name"]
        container = main_container(objects, name)
        settings = load(monkeypatch, objects, container)
        assert isinstance(settings, ProcessSettings)
        needed = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed += STOPS[name] * settings.shutdown_grace_seconds + STOP_MARGIN_SECONDS
        assert pod_of(deployment)["spec"]["terminationGracePeriodSeconds"] >= needed, name


def test_a_busy_pod_that_is_taken_away_ends_its_work(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(overlay)
    analysis = load(monkeypatch, objects, main_container(objects, "speech-analysis-server"))
    assert isinstance(analysis, SpeechSettings)
    assert analysis.shutdown_grace_seconds >= analysis.analysis_time_limit_seconds
    cameras = load(monkeypatch, objects, main_container(objects, "gpu-preprocessor"))
    assert isinstance(cameras, PreprocessorSettings)
    longest = MAX_CLIP_SECONDS + cameras.clip_extra_seconds
    assert cameras.shutdown_grace_seconds > longest


def test_memory_and_disk_hold_what_settings_allow(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Idle, and for each piece of work, in MiB, as measured: see the manifests' comments.
    objects = render(overlay)
    ingest = load(monkeypatch, objects, main_container(objects, "ingest-api"))
    assert isinstance(ingest, IngestSettings)
    assert _mib(objects, "ingest-api") > 143 + ingest.max_concurrent_uploads * 26.4
    cameras = load(monkeypatch, objects, main_container(objects, "gpu-preprocessor"))
    assert isinstance(cameras, PreprocessorSettings)
    at_once = cameras.max_concurrency + cameras.on_demand_concurrency
    assert _mib(objects, "gpu-preprocessor") > 348 + at_once * (166 + 34 + cameras.clip_memory_mib)
    assert _tmp_mib(objects, "gpu-preprocessor") > at_once * cameras.clip_max_mib
    analysis = load(monkeypatch, objects, main_container(objects, "speech-analysis-server"))
    assert isinstance(analysis, SpeechSettings)
    assert _mib(objects, "speech-analysis-server") > 265 + analysis.analysis_concurrency * 473
    fetched = analysis.speech_max_audio_bytes + 2 * analysis.speech_max_reference_bytes
    held = analysis.analysis_concurrency * fetched / 1024**2
    assert _tmp_mib(objects, "speech-analysis-server") > held


def _mib(objects: list[Manifest], name: str) -> float:
    return _size(main_container(objects, name)["resources"]["limits"]["memory"])


def _tmp_mib(objects: list[Manifest], name: str) -> float:
    spec = pod_of(named(objects, "Deployment", name))["spec"]
    [volume] = spec["volumes"]
    [mount] = main_container(objects, name)["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/tmp")  # noqa: S108
    size = _size(volume["emptyDir"]["sizeLimit"])
    assert _size(main_container(objects, name)["resources"]["limits"]["ephemeral-storage"]) > size
    return size


def _size(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_urls_inside_lead_to_services_and_routes(overlay: str) -> None:
    objects = render(overlay)
    env = environment_of(objects, main_container(objects, "dispatcher"))
    assert env["WEBHOOK_URL"] == f"http://{_address(objects, 'results')}/webhooks/analysis"
    assert "/webhooks/analysis" in _routes("results")
    if env.get("USE_SQS_QUEUE") != "true":
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
    for ingress in of_kind(render(overlay), "Ingress"):
        [rule] = ingress["spec"]["rules"]
        paths = [path["path"] for path in rule["http"]["paths"]]
        routes = _routes(ingress["metadata"]["name"])
        outside = {
            route for route in routes if any(f"{route}/".startswith(f"{path}/") for path in paths)
        }
        health = {route for route in routes if route.startswith("/health")}
        assert health
        assert outside == routes - health
        for path in paths:
            assert any(f"{route}/".startswith(f"{path}/") for route in routes), path


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
        assert seen == set(STOPS)
        assert all(monitor["spec"]["jobLabel"] in labels_of(each) for each in workloads(objects))
