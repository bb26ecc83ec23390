"""The page says what the model says, and the model says what code and manifests say."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from headrace_capacity import page, pods, requests, stores
from headrace_capacity.__main__ import main
from headrace_capacity.load import Limits, Plan
from headrace_capacity.measurement import Measurement, Service
from headrace_capacity.measuring.analysis import behaviour, token_name

from headrace_analysis.settings import AnalysisSettings
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES
from headrace_dispatcher.settings import DispatcherSettings
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_ingest_api.settings import IngestSettings
from headrace_results.settings import ResultsSettings

_K8S = Path(__file__).parents[2] / "k8s"
#: The example's analysis server stands for everybody's.
_FOLDERS = {service: str(service) for service in Service} | {
    Service.ANALYSIS: "speech-analysis-server"
}


def _manifest(folder: str, name: str = "deployment.yaml") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_K8S / folder / name).read_text())
    return found


def test_the_tables_of_the_page_are_what_the_model_prints() -> None:
    assert page.is_true(), "PYTHONPATH=scripts python -m headrace_capacity --write"


def test_a_page_that_was_changed_is_found_out(committed: Measurement) -> None:
    text = page.PAGE.read_text()
    assert "| ingest-api |" in text
    changed = text.replace("| ingest-api |", "| ingest-api, changed |")
    assert page.filled(changed, committed) == page.filled(text, committed) != changed
    with pytest.raises(page.UnknownTableError, match="carries"):
        page.filled(text.replace("<!-- table: carries -->", ""), committed)


@pytest.mark.parametrize("service", Service)
def test_requests_and_least_replicas_are_those_of_the_manifests(service: Service) -> None:
    spec = _manifest(f"base/{_FOLDERS[service]}")["spec"]
    assert pods.LEAST[service] == spec["replicas"]
    (container,) = spec["template"]["spec"]["containers"]
    asked = container["resources"]["requests"]
    cpu = str(asked["cpu"])
    cores = float(cpu.removesuffix("m")) / 1_000 if cpu.endswith("m") else float(cpu)
    assert pods.REQUESTS[service] == (cores, int(asked["memory"].removesuffix("Mi")))
    if service in {Service.PREPROCESSOR, Service.ANALYSIS}:
        assert pods.CORES[service] == float(container["resources"]["limits"]["cpu"])


@pytest.mark.parametrize("service", Service)
def test_most_replicas_are_those_of_the_scalers(service: Service) -> None:
    if service in {Service.INGEST, Service.RESULTS}:
        most = _manifest("components/hpa", f"{service}.yaml")["spec"]["maxReplicas"]
    else:
        most = _manifest("components/keda", f"{_FOLDERS[service]}.yaml")["spec"]["maxReplicaCount"]
    assert Limits().pods[service] == most


def test_rules_go_by_the_defaults_of_the_settings() -> None:
    def default(model: Any, name: str) -> Any:
        return model.model_fields[name].default

    assert stores.POOL[Service.INGEST] == default(IngestSettings, "database_pool_size")
    assert stores.POOL[Service.DISPATCHER] == default(DispatcherSettings, "database_pool_size")
    assert stores.POOL[Service.RESULTS] == default(ResultsSettings, "database_pool_size")
    looks = default(DispatcherSettings, "dead_letter_interval_seconds")
    assert looks == requests._DEAD_PAUSE_SECONDS
    assert default(DispatcherSettings, "batch_linger_seconds") == requests._LINGER_SECONDS
    assert default(ResultsSettings, "sqs_result_wait_seconds") == requests._RESULT_WAIT_SECONDS
    visibility = default(AnalysisSettings, "analysis_visibility_timeout_seconds")
    assert visibility / 3 == requests._RENEWAL_SECONDS
    assert default(IngestSettings, "upload_part_bytes") == requests._PART_MIB * 2**20
    assert 0.8 * default(ResultsSettings, "sse_max_clients") == pods._MOST_STREAMS
    assert 0.8 * default(IngestSettings, "max_concurrent_uploads") == pods._MOST_UPLOADS
    assert default(StreamSettings, "redis_trim_seconds") == stores._TRIM_SECONDS
    plan = Plan()
    assert plan.camera_slots_per_pod == default(StreamSettings, "max_concurrency")
    assert plan.analysis_slots_per_pod == default(AnalysisSettings, "analysis_concurrency")
    assert plan.lane_wait_seconds == default(AnalysisSettings, "analysis_lane_wait_seconds")
    assert plan.retention_days == default(IngestSettings, "job_retention_days")
    assert jobs_in_a_batch() == SQS_MAX_BATCH_ENTRIES


def jobs_in_a_batch() -> float:
    return requests.jobs_per_batch(1e9)


def test_the_command_prints_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--jobs-per-day", "1000000", "--cameras", "10000"]) == 0
    told = capsys.readouterr().out
    for words in ("| gpu-preprocessor |", "| Postgres |", "times this load", "check them"):
        assert words in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to do: give --jobs-per-day, --cameras or both"),
        (["--jobs-per-day", "-1"], "--jobs-per-day: Input should be greater than or equal to 0"),
        (["--cameras", "many"], "argument --cameras: invalid float value: 'many'"),
        (["--cameras", "5", "--target-utilisation", "1"], "--target-utilisation: Input should be"),
        (["--cameras", "5", "--measured", "/nowhere"], "/nowhere: "),
        (["--horses", "5"], "unrecognized arguments: --horses 5"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"headrace_capacity: {told}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_token_says_what_the_idle_analysis_does() -> None:
    assert behaviour(token_name(3, 0.6)) == (3, 0.6)
    assert behaviour(token_name(0, 14)) == (0, 14.0)
