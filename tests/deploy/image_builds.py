"""`make images`: every image is built by its Dockerfile and run, as far as that goes here.

Buildah does the building. The running is a read-only root in namespaces of its own, the image's
user without a privilege, and real servers. IMAGES chooses some, by comma.
"""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import httpx
import pytest
from compose_file import SETTINGS, variables_of
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from image_builder import BASE, Built, build, buildah
from image_files import IMAGES, closure, installed_by, metadata_of, pinned
from packaging.utils import canonicalize_name

from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalServers

MARK = secrets.token_hex(16)
CHOSEN = [name for name in IMAGES if name in os.environ.get("IMAGES", ",".join(IMAGES)).split(",")]
RUN = [name for name in CHOSEN if name != "local"]
#: For whatever takes seconds, on a machine that does much else.
PATIENCE_SECONDS = 300
#: Megabytes that an image may add to its base.
LIMITS = {
    "ingest-api": 165,
    "dispatcher": 165,
    "results": 165,
    "gpu-preprocessor": 900,
    "speech-analysis-server": 500,
    "local": 600,
}
_COMPOSE_NAMES = {"speech-analysis-server": "analysis-server"}


@pytest.fixture(scope="module", params=CHOSEN)
def image(request: pytest.FixtureRequest) -> Iterator[tuple[str, Built]]:
    """Each image in turn, with its name."""
    name = str(request.param)
    built = build(name, mark=MARK)
    try:
        yield name, built
    finally:
        built.remove()


def _size_megabytes(root: Path) -> float:
    done = subprocess.run(["du", "-xsk", root], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0]) / 1024


def _packages(root: Path) -> dict[str, str]:
    [site] = (root / "opt/headrace/lib").glob("python3*/site-packages")
    return {canonicalize_name(each.name): each.version for each in distributions(path=[str(site)])}


def test_image(image: tuple[str, Built], local_servers: LocalServers, tmp_path: Path) -> None:
    """One test, so that no image is built twice by workers of pytest."""
    name, built = image
    _tells_an_engine_what_it_must(name, built)
    _has_what_its_list_says(name, built)
    _keeps_no_secret(built)
    _can_write_nowhere(built)
    if name in RUN:
        _serves(name, built, local_servers, tmp_path)
    else:
        _helps(built, local_servers)
        _stands_in_for_a_cloud(built, tmp_path)


def _tells_an_engine_what_it_must(name: str, built: Built) -> None:
    config = built.config
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == f"headrace-{name}"
    assert config["Labels"]["org.opencontainers.image.revision"] == "tested"
    size = _size_megabytes(built.root / "opt")
    print(f"\n{name}: {size:.0f} MB on top of the base")  # noqa: T201 - a figure for the docs
    assert size < LIMITS[name]


def _has_what_its_list_says(name: str, built: Built) -> None:
    bom = built.root / "opt/headrace/sbom.cdx.json"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom.read_text()) is None
    installed, pins = _packages(built.root), pinned()
    assert set(installed) - set(metadata_of(bom)) <= {_root_component(bom)}
    assert "torch" not in installed
    assert set(installed) <= closure(installed_by(name)) | {"headrace", "headrace-local"}
    for package, version in installed.items():
        assert package.startswith("headrace") or version in pins[package], package


def _root_component(bom: Path) -> str:
    return canonicalize_name(json.loads(bom.read_text())["metadata"]["component"]["name"])


def _keeps_no_secret(built: Built) -> None:
    found = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--devices=skip", MARK, built.root],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert MARK not in buildah("inspect", built.container)


def _can_write_nowhere(built: Built) -> None:
    program = (
        "import os\n"
        "print(os.getuid(), os.getgid())\n"
        "open('/tmp/mine', 'w').close()\n"
        "for place in ('/', '/opt/headrace', '/etc', '/var/tmp'):\n"
        "    try: open(place + '/x', 'w'); print('wrote in', place)\n"
        "    except OSError: pass\n"
    )
    said = built.call("python", "-c", program)
    assert (said.returncode, said.stdout) == (0, "10001 10001\n")


def _serves(name: str, built: Built, local_servers: LocalServers, tmp_path: Path) -> None:
    settings = SETTINGS[_COMPOSE_NAMES.get(name, name)]
    servers = ["postgres", "valkey", "s3", "sqs"]
    servers += ["keystone", "swift"] if name == "gpu-preprocessor" else []
    told = local_servers.env(*servers)
    port = str(reserve_port())
    environment = {key: told[key] for key in variables_of(settings) & set(told)}
    environment |= {"HOST": "127.0.0.1", "PORT": port}
    if name == "speech-analysis-server":
        environment["CALLBACK_ALLOWED_HOSTS"] = "127.0.0.1"
    if name == "results":  # any service's image can migrate
        assert (
            built.call("python", "-m", "headrace_common.db", environment=environment).returncode
            == 0
        )
    log = tmp_path / "log"
    with log.open("w") as output:
        process = built.start(
            built.config["Cmd"], environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process, log)
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30, trust_env=False)
            assert 'revision="tested"' in metrics.text, "headrace_build_info"
            [kind, *check] = built.config["Healthcheck"]["Test"]
            assert kind == "CMD"
            assert built.call(*check, environment={"PORT": port}).returncode == 0
            assert built.call(*check, environment={"PORT": str(reserve_port())}).returncode != 0
            [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)  # it is process 1 in there
            assert process.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text()[-2000:]
        finally:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[str]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            answer = httpx.get(f"{url}/health/ready", timeout=30, trust_env=False)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == 200:
            break
        assert time.monotonic() < deadline, answer.text if answer else log.read_text()[-3000:]
        time.sleep(0.2)
    assert httpx.get(f"{url}/health/live", timeout=30, trust_env=False).status_code == 200


def _helps(built: Built, local_servers: LocalServers) -> None:
    """The tool: what docker-compose.yml runs before the services, against real servers."""
    told = local_servers.env("postgres", "s3", "sqs")
    wanted = {key: value for key, value in told.items() if not key.startswith("OS_")}
    for command in (
        ("python", "-m", "headrace_local.container", "buckets"),
        ("headrace", "sqs", "create-queues"),
        ("headrace", "db", "status"),
    ):
        done = built.call(*command, environment=wanted)
        assert done.returncode == 0, done.stdout
    unknown = built.call("python", "-m", "headrace_local.container", "other")
    assert (unknown.returncode, "usage" in unknown.stdout) == (1, True)


#: Keystone, Swift and the SQS emulator as docker-compose.yml runs them, and a client of theirs;
#: they share a network of their own, so that nobody on this machine has their ports.
_CLOUD = """
import os, subprocess, sys, tempfile, time, urllib.request
from headrace_local.credentials import Credentials
from headrace_local.openstack import ask_token, put_object

made = Credentials()
secret = {name.upper(): str(value) for name, value in made if value}
running = {}
for name in ("keystone", "swift", "sqs"):
    own = {**os.environ, **secret, "DATA_DIR": tempfile.mkdtemp()}
    command = [sys.executable, "-m", "headrace_local.container", name]
    running[name] = subprocess.Popen(command, env=own)

def wait(url):
    for _ in range(300):
        try:
            return urllib.request.urlopen(url).status
        except OSError:
            time.sleep(0.2)

print(wait("http://keystone:5000/v3"), wait("http://swift:8080/healthcheck"),
      wait("http://sqs:4566/_ministack/health"))
token = ask_token("http://keystone:5000/v3", password=made.openstack_password)
print(token.object_store_url.rpartition("/")[0])
put_object(token, host="swift:8080")
for process in running.values():
    process.terminate()
print([process.wait(timeout=20) for process in running.values()])
"""


def _stands_in_for_a_cloud(built: Built, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost keystone swift sqs\n")
    done = built.call("python", "-c", _CLOUD, hosts=hosts)

    said = [line for line in done.stdout.splitlines() if " WARNING " not in line]
    assert said == ["200 200 200", "http://swift:8080/v1", "[0, 0, 0]"], done.stdout
    assert done.returncode == 0


def test_the_base_is_the_stand_in() -> None:
    assert BASE in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
