"""What docs/how-to/kubernetes.md says to type is right; what needs no cluster of it runs."""

import base64
import os
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aws_templates import template
from k8s_manifests import (
    K8S,
    OVERLAYS,
    Manifest,
    all_containers,
    environment_of,
    kubectl,
    of_kind,
    render,
    secret_references,
)
from k8s_settings import SETTINGS, module_of

ROOT: Final = K8S.parent
PAGE: Final = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
#: Name spaces of others.
FOREIGN: Final = {"keda", "NAMESPACE"}
#: What a reader has in variables before the first command.
GIVEN: Final = {
    "DATABASE_URL": "postgresql://headrace:secret@postgres.servers:5432/headrace",
    "REDIS_PASSWORD": "redis-secret",
    "OS_USERNAME": "headrace",
    "OS_PASSWORD": "swift-secret",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
}
#: `kubectl create` without a cluster: it writes what it would send.
_SHIM: Final = '#!/bin/sh\nexec "$KUBECTL" "$@" --dry-run=client --output=yaml\n'


def _blocks() -> list[str]:
    """Return the blocks of code, without their indentation."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in blocks]


def _commands(program: str) -> list[list[str]]:
    """Return the words of each command of a program, in the blocks and within sentences."""
    joined = "\n".join(_blocks()).replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.startswith(f"{program} ")]
    lines += [text for text in re.findall(r"`([^`]+)`", PAGE) if text.startswith(f"{program} ")]
    return [shlex.split(line.partition(" | ")[0]) for line in lines]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the block makes, by Secret and key: the very commands, with kubectl's dry run."""
    programs = tmp_path_factory.mktemp("programs")
    shim = programs / "kubectl"
    shim.write_text(_SHIM)
    shim.chmod(0o755)
    [block] = [each for each in _blocks() if "create secret" in each]
    done = subprocess.run(
        ["bash", "-euc", block.replace("\nkubectl", "\necho ---\nkubectl")],
        check=True,
        capture_output=True,
        text=True,
        env={
            **GIVEN,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "KUBECTL": str(Path(kubectl()).resolve()),
            "HOME": str(programs),
        },
    )
    made: list[Manifest] = list(yaml.safe_load_all(done.stdout))
    assert {each["metadata"].get("namespace", "headrace-dev") for each in made} == {"headrace-dev"}
    return {
        each["metadata"]["name"]: {
            key: base64.b64decode(value).decode() for key, value in each["data"].items()
        }
        for each in made
        if each["kind"] == "Secret"
    }


def test_the_secrets_are_those_that_are_referred_to(secrets: dict[str, dict[str, str]]) -> None:
    referred = {
        (secret, key)
        for _, _, container in all_containers(render("dev"))
        for _, secret, key in secret_references(container)
    }
    assert {(secret, key) for secret, keys in secrets.items() for key in keys} == referred


def test_every_process_takes_the_secrets(
    secrets: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {key: value for keys in secrets.values() for key, value in keys.items()}
    objects = render("dev")
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for _, _, container in all_containers(objects):
        environment = environment_of(objects, container)
        for name, value in environment.items():
            monkeypatch.setenv(name, values[name] if value is None else value)
        SETTINGS[module_of(container)].load()
        for name in environment:
            monkeypatch.delenv(name)


def test_the_table_of_secrets_is_whole() -> None:
    told = {
        (secret, key)
        for secret, keys in re.findall(r"^\| `(headrace-\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", keys)
    }
    referred = {
        (secret, key)
        for overlay in OVERLAYS
        for _, _, container in all_containers(render(overlay))
        for _, secret, key in secret_references(container)
    }
    assert told == referred


def test_kubectl_is_given_what_there_is() -> None:
    objects = {overlay: render(overlay) for overlay in OVERLAYS}
    spaces = {of_kind(each, "Namespace")[0]["metadata"]["name"] for each in objects.values()}
    names = {
        f"{each['kind'].lower()}/{each['metadata']['name']}" for each in objects["production"]
    } | {"deployment/keda-operator"}
    seen = 0
    for command in _commands("kubectl"):
        for flag, value in pairwise(command):
            if flag == "-n":
                assert value in spaces | FOREIGN, command
            if flag == "-k":
                assert (ROOT / value / "kustomization.yaml").is_file(), command
        for word in command:
            if re.match(r"(deployment|job|service)/", word):
                assert word in names, command
                seen += 1
    assert seen > 5


def test_the_templates_take_the_parameters() -> None:
    commands = _commands("aws")
    deployed = [command for command in commands if command[1:3] == ["cloudformation", "deploy"]]
    assert len(deployed) == 6
    for command in deployed:
        path = ROOT / command[command.index("--template-file") + 1]
        known: dict[str, Any] = template(path.name)["Parameters"]
        given = {word.partition("=")[0] for word in command if re.match(r"[A-Z]\w+=", word)}
        assert given <= known.keys(), command
        needed = {name for name, parameter in known.items() if "Default" not in parameter}
        assert given >= needed, command


def test_the_second_installation_is_the_overlay_staging() -> None:
    text = "\n".join(yaml.safe_dump(each) for each in render("staging"))
    for command in _commands("aws"):
        if "headrace-staging" not in " ".join(command):
            continue
        for word in command:
            name, separator, value = word.partition("=")
            if separator and name != "OidcProvider":
                assert value in text, word
