"""Whole installations: what two may share, what their database must hold, how images come in."""

import os
import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest
import yaml
from compose_file import TUNED_FOR_TESTS
from k8s_manifests import (
    K8S,
    Manifest,
    all_containers,
    environment_of,
    named,
    of_kind,
    render,
    render_folder,
)
from k8s_settings import SETTINGS, load, main_container, module_of, names_of

from headrace_common.settings import DatabaseSettings
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_local.credentials import Credentials
from headrace_local.environment import server_settings, service_settings

#: Both are examples for one account.
IN_THE_CLOUD: Final = ("production", "staging")
#: Where AWS itself is asked, and roles are had instead of keys.
OF_AWS: Final = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_ENDPOINT_URL", "SQS_ENDPOINT_URL"),
}
#: What the local stack says and every installation may leave as it is.
BY_DEFAULT: Final = {
    *("OS_REGION_NAME", "REDIS_VISIBILITY_TIMEOUT", "SWIFT_CONTAINER", "SWIFT_UPLOAD_PREFIX"),
}
PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "kubernetes.md"


def _own(overlay: str) -> set[str]:
    """Return what an installation calls its own: name space, servers, queues, secrets, roles."""
    objects = render(overlay)
    [servers] = [
        each["data"]
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"].startswith("headrace-servers")
    ]
    own = {each["metadata"]["name"] for each in of_kind(objects, "Namespace")}
    own |= {value for name, value in servers.items() if name.startswith("SQS_")}
    own |= {servers[name] for name in ("REDIS_URL", "S3_BUCKET", "OS_PROJECT_NAME")}
    for secret in of_kind(objects, "ExternalSecret"):
        own |= {data["remoteRef"]["key"] for data in secret["spec"]["data"]}
    for account in of_kind(objects, "ServiceAccount"):
        own |= set(account["metadata"].get("annotations", {}).values())
    for route in of_kind(objects, "HTTPRoute"):
        own |= set(route["spec"]["hostnames"])
    return own


def test_installations_of_one_account_share_nothing() -> None:
    for one, other in combinations(IN_THE_CLOUD, 2):
        assert len(_own(one)) > 15
        assert _own(one) & _own(other) == set()


@pytest.mark.parametrize("overlay", IN_THE_CLOUD)
def test_processes_are_told_what_headrace_up_tells_them(overlay: str) -> None:
    ports: dict[str, int] = defaultdict(lambda: 1)
    secrets = Credentials()
    up = {**server_settings(ports, secrets), **service_settings(ports, secrets)}
    objects = render(overlay)
    for deployment in of_kind(objects, "Deployment"):
        container = main_container(objects, deployment["metadata"]["name"])
        known = up.keys() & names_of(SETTINGS[module_of(container)])
        missing = known - environment_of(objects, container).keys()
        assert missing <= TUNED_FOR_TESTS | OF_AWS | BY_DEFAULT, deployment["metadata"]["name"]


@pytest.mark.parametrize("overlay", IN_THE_CLOUD)
def test_the_page_says_how_many_connections_postgres_must_take(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(overlay)
    most = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"].get("maxReplicas")
        or each["spec"]["maxReplicaCount"]
        for each in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    }
    needed = 0
    for deployment in of_kind(objects, "Deployment"):
        name = deployment["metadata"]["name"]
        replicas = most[name] if name in most else deployment["spec"]["replicas"]
        replicas += deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        needed += replicas * _pool(load(monkeypatch, objects, main_container(objects, name)))
    [told] = re.findall(rf"{overlay} up to (\d+)", PAGE.read_text())
    assert needed <= int(told) <= 1.1 * needed


def _pool(settings: object) -> int:
    if isinstance(settings, PreprocessorSettings):
        keys = settings.key_database()
        return keys.database_pool_size if keys else 0
    return settings.database_pool_size if isinstance(settings, DatabaseSettings) else 0


@pytest.mark.parametrize("overlay", IN_THE_CLOUD)
def test_every_image_can_be_named_by_its_digest(overlay: str, tmp_path: Path) -> None:
    """As a pipeline of a release does it: an overlay of its own on top."""
    objects = render(overlay)
    images = {_repository(container) for _, _, container in all_containers(objects)}
    written = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text())
    assert images == {each["newName"] for each in written["images"]}
    digests = [
        {"name": image, "digest": f"sha256:{number:064x}"}
        for number, image in enumerate(sorted(images), start=1)
    ]
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / "overlays" / overlay, tmp_path)],
        "images": digests,
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    rendered = all_containers(render_folder(str(tmp_path)))
    pinned = {container["image"] for _, _, container in rendered}
    assert pinned == {f"{each['name']}@{each['digest']}" for each in digests}


def _repository(container: Manifest) -> str:
    return str(container["image"]).rpartition(":")[0]


@pytest.mark.parametrize("overlay", IN_THE_CLOUD)
def test_the_migration_is_of_the_image_that_waits_for_it(overlay: str) -> None:
    """Or new pods would wait for migrations that the Job does not know."""
    objects = render(overlay)
    [job] = of_kind(objects, "Job")
    dispatcher = named(objects, "Deployment", "dispatcher")
    images = {container["image"] for _, _, container in all_containers([job, dispatcher])}
    assert len(images) == 1
