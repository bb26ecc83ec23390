"""docker-compose.yml: valid to Compose itself, closed, and the contract of `headrace up`."""

import re
import stat
import subprocess
import sys
from itertools import chain, combinations
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from compose_file import (
    GENERATOR,
    PORTS,
    PROFILES,
    ROOT,
    SETTINGS,
    TUNED_FOR_TESTS,
    Compose,
    environment_of,
    read,
    run,
    variables_of,
)
from k8s_manifests import K8S, all_containers, named, pod_of, render

from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_local.container import PORTS as CONTAINER_PORTS
from headrace_local.pytest_plugin import LocalServers

IN_EVERY_HALF = {"valkey", "postgres", "s3", "migrate", "buckets"} | {
    "ingest-api",
    "dispatcher",
    "results",
}
OF_PROFILE = {
    "core": IN_EVERY_HALF | {"sqs", "queues", "analysis-server"},
    "cctv": IN_EVERY_HALF | {"keystone", "swift", "gpu-preprocessor"},
    "gpu": IN_EVERY_HALF | {"keystone", "swift", "gpu-preprocessor-cuda"},
    "observability": {"prometheus", "grafana"},
}
#: What both say must be the same to the letter; all else is an address, a secret or a duration.
SAME_VALUE = {
    "AWS_REGION",
    "LOG_FORMAT",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_PROJECT_NAME",
    "OS_REGION_NAME",
    "OS_USERNAME",
    "OS_USER_DOMAIN_NAME",
    "S3_BUCKET",
    "SWIFT_CONTAINER",
    "SWIFT_UPLOAD_PREFIX",
    "USE_SQS_QUEUE",
}


def all_profile_sets() -> list[tuple[str, ...]]:
    """Return every combination of profiles that somebody can ask for."""
    sizes = range(1, len(PROFILES) + 1)
    return list(chain.from_iterable(combinations(PROFILES, size) for size in sizes))


@pytest.mark.parametrize("profiles", all_profile_sets(), ids="+".join)
def test_every_combination_of_profiles_is_valid_and_has_its_services(
    env_file: Path, profiles: tuple[str, ...]
) -> None:
    services = read(env_file, profiles)["services"]

    assert set(services) == set().union(*(OF_PROFILE[profile] for profile in profiles))


def test_compose_refuses_to_run_without_secrets() -> None:
    done = run("--profile", "core", "config", env_file=ROOT / ".env.example")

    assert done.returncode != 0
    assert "required variable HEADRACE_" in done.stderr


def test_the_example_has_every_variable_and_no_secret() -> None:
    used = set(re.findall(r"\$\{(HEADRACE_\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert used <= set(example)
    assert {name: value for name, value in example.items() if value} == {"COMPOSE_PROFILES": "core"}
    optional = {
        *("COMPOSE_PROFILES", "HEADRACE_API_KEY"),
        *("HEADRACE_HLS_ALLOWED_HOSTS", "HEADRACE_OTLP_ENDPOINT"),
    }
    assert set(example) - used == optional


def test_the_generator_writes_for_the_owner_only_and_never_replaces_secrets(
    tmp_path: Path,
) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / GENERATOR.name).write_text(GENERATOR.read_text())
    command = [sys.executable, str(scripts / GENERATOR.name)]

    first = subprocess.run(command, check=False)
    written = (tmp_path / ".env").read_text()
    second = subprocess.run(command, check=False, capture_output=True)
    subprocess.run([*command, "--example"], check=True)

    assert (first.returncode, second.returncode) == (0, 1)
    assert (tmp_path / ".env").read_text() == written
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert (tmp_path / ".env.example").read_text() == (ROOT / ".env.example").read_text()


@pytest.mark.parametrize("service", SETTINGS)
def test_services_are_told_the_same_as_by_headrace_up(
    whole: Compose, service: str, local_servers: LocalServers
) -> None:
    ours = environment_of(whole["services"][service])
    known = variables_of(SETTINGS[service])
    up = local_servers.env("postgres", "valkey", "s3", "sqs")
    theirs = {name: value for name, value in up.items() if name in known}

    assert set(ours) - known <= {"OTEL_EXPORTER_OTLP_ENDPOINT"}  # OpenTelemetry reads its own
    assert set(theirs) - set(ours) <= TUNED_FOR_TESTS
    assert SAME_VALUE & known <= set(theirs)
    for name in SAME_VALUE & set(theirs):
        assert ours[name] == theirs[name], name
    for name, value in theirs.items():
        if "QUEUE_URL" in name:
            assert urlsplit(ours[name]).path == urlsplit(value).path, name


@pytest.mark.parametrize("service", SETTINGS)
def test_services_take_their_environment(
    whole: Compose, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in variables_of(SETTINGS[service]):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment_of(whole["services"][service]).items():
        monkeypatch.setenv(name, value)

    settings = SETTINGS[service].load()
    if isinstance(settings, PreprocessorSettings):  # an empty list would be every public host
        assert settings.hls_allowed_hosts == ("none.invalid",)


@pytest.mark.parametrize("service", SETTINGS)
def test_every_address_is_a_service_of_the_file_on_its_own_port(
    whole: Compose, service: str
) -> None:
    outside = {"S3_PUBLIC_ENDPOINT_URL": "s3", "SWIFT_PUBLIC_URL": "swift"}
    for name, value in environment_of(whole["services"][service]).items():
        place = urlsplit(value)
        if name in outside:
            published = whole["services"][outside[name]]["ports"]
            assert place.netloc in {f"{port['host_ip']}:{port['published']}" for port in published}
        elif "://" in value:
            assert place.port == PORTS[str(place.hostname)], name


def test_every_port_is_published_on_loopback_only(whole: Compose) -> None:
    ports = [port for service in whole["services"].values() for port in service.get("ports", ())]

    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert len(published) == len(set(published))


def test_servers_of_our_own_listen_where_the_file_looks_for_them() -> None:
    assert {name: CONTAINER_PORTS[name] for name in ("sqs", "keystone", "swift")} == {
        name: PORTS[name] for name in ("sqs", "keystone", "swift")
    }


def test_what_we_build_runs_without_privileges_on_a_read_only_root(whole: Compose) -> None:
    ours = {name: each for name, each in whole["services"].items() if "build" in each}

    assert set(SETTINGS) <= set(ours)
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        [temporary] = service["tmpfs"]  # in memory, so that it has a size
        assert re.fullmatch(r"/tmp:size=\d+[mg]", temporary), name  # noqa: S108 - the container's
        assert not service.get("privileged"), name
        assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        assert service["stop_grace_period"] == "45s", name
        assert float(environment_of(service).get("SHUTDOWN_GRACE_SECONDS", 0)) < 45, name


def test_temporary_files_have_the_room_that_the_manifests_give(whole: Compose) -> None:
    objects = render("dev")
    for name in ("ingest-api", "dispatcher", "results", "analysis-server", "gpu-preprocessor"):
        deployment = named(objects, "Deployment", name.replace("analysis", "speech-analysis"))
        [volume] = pod_of(deployment)["spec"]["volumes"]
        wanted = _mib(volume["emptyDir"]["sizeLimit"].removesuffix("i"))
        services = [name, f"{name}-cuda"] if name == "gpu-preprocessor" else [name]
        for service in services:
            [here] = whole["services"][service]["tmpfs"]
            assert _mib(here.rpartition("=")[2]) >= wanted, service


def _mib(size: str) -> int:
    return int(size[:-1]) * {"m": 1, "g": 1024}[size[-1].lower()]


def test_all_that_stays_up_says_how_it_is_and_is_waited_for(whole: Compose) -> None:
    services = whole["services"]
    once = {name for name, each in services.items() if each.get("restart") == "no"}

    assert once == {"migrate", "buckets", "queues", "headrace"}
    for name, service in services.items():
        if name not in once and name not in SETTINGS:  # a service's image has its own
            assert service["healthcheck"]["test"], name
        for other, wanted in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if other in once else "service_healthy"
            assert wanted["condition"] == done, (name, other)
    needed = {"migrate", "buckets", "queues", "valkey"}
    for name in ("ingest-api", "dispatcher", "results"):
        assert set(services[name]["depends_on"]) == needed


def test_no_secret_stands_in_the_file_itself() -> None:
    """Each is a variable, the one inside the database's URL too."""
    lines = (ROOT / "docker-compose.yml").read_text().splitlines()
    named = [line for line in lines if re.match(r"\s*\w*(PASSWORD|SECRET|KEY|CLI_AUTH)\w*: ", line)]
    urls = [line for line in lines if re.search(r"://\w+:", line) and "@" in line]

    assert len(named) > 20
    assert len(urls) == 1
    for line in [*named, *urls]:
        assert "${HEADRACE_" in line, line


def test_images_are_of_a_version_each_and_can_be_pinned_by_digest() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    foreign = {name: each["image"] for name, each in services.items() if "build" not in each}

    assert len(foreign) == 5
    for name, image in foreign.items():
        default = re.fullmatch(r"\$\{HEADRACE_\w+_IMAGE:-[\w/]+:(v?\d[\w.]*)\}", image)
        assert default, name
        assert default[1] != "latest"


def test_images_have_the_names_that_the_manifests_have(whole: Compose) -> None:
    ours = {each["image"] for each in whole["services"].values() if "build" in each}
    manifests = {
        container["image"].rpartition(":")[0] for _, _, container in all_containers(render("dev"))
    }
    cuda = yaml.safe_load((K8S / "components/gpu/kustomization.yaml").read_text())["images"]

    assert ours == manifests | {each["newName"] for each in cuda} | {"headrace/local"}
    for name, service in whole["services"].items():
        if "build" in service:  # a service's name may differ from its image's
            variant = service["build"]["args"].get("VARIANT")
            assert service["image"].endswith("-cuda") == (variant == "cuda"), name
            assert service["build"]["args"].keys() >= {"BASE_IMAGE", "REVISION"}, name
