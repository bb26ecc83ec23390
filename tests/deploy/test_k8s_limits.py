"""The times, memory and disk of the manifests are enough for what the settings allow."""

import re
from typing import Final

import pytest
from botocore.credentials import RefreshableCredentials
from k8s_manifests import OVERLAYS, Manifest, named, of_kind, pod_of, render
from k8s_settings import load, main_container

from headrace_common.contracts.cctv import MAX_CLIP_SECONDS
from headrace_common.settings import ProcessSettings
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_ingest_api.settings import IngestSettings
from headrace_results.settings import ResultsSettings
from speech_analysis_server.settings import SpeechSettings

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
#: nginx and AWS' load balancers keep idle connections to a pod for so long by default; Envoy
#: lets go of them at once where a pod is taken away.
PROXY_IDLE_SECONDS: Final = 60

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


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
        needed += settings.drain_seconds + STOPS[name] * settings.shutdown_grace_seconds
        needed += STOP_MARGIN_SECONDS
        assert pod_of(deployment)["spec"]["terminationGracePeriodSeconds"] >= needed, name


def test_a_proxy_lets_go_of_a_connection_before_its_pod_does(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(overlay)
    behind = {each["metadata"]["name"] for each in of_kind(objects, "HTTPRoute", "Ingress")}
    assert len(behind) == (0 if overlay == "dev" else 4)
    for name in behind:
        settings = load(monkeypatch, objects, main_container(objects, name))
        assert isinstance(settings, ProcessSettings)
        assert settings.drain_seconds > PROXY_IDLE_SECONDS, name
        assert settings.keep_alive_seconds > PROXY_IDLE_SECONDS, name


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


def test_signed_urls_end_before_the_credentials_of_a_role(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(overlay)
    account = named(objects, "ServiceAccount", "ingest-api")["metadata"]
    if "eks.amazonaws.com/role-arn" not in account.get("annotations", {}):
        assert overlay == "dev"
        return
    # Younger ones are not renewed: what is signed with them may have only so long.
    least = vars(RefreshableCredentials)["_mandatory_refresh_timeout"]
    ingest = load(monkeypatch, objects, main_container(objects, "ingest-api"))
    assert isinstance(ingest, IngestSettings)
    assert ingest.direct_upload_url_seconds <= least
    results = load(monkeypatch, objects, main_container(objects, "results"))
    assert isinstance(results, ResultsSettings)
    assert results.artifact_url_seconds <= least


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
