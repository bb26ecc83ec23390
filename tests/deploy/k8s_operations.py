"""More policies: of what operators do with the manifests: roll out, drain, migrate."""

from collections.abc import Iterator
from typing import Final

from k8s_manifests import Manifest, of_kind, pod_of, title, workloads
from k8s_policies import policy

_SAFE_VOLUMES: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
#: By which tools that follow a repository replace an object that cannot be changed.
_REPLACED_BY: Final = {
    "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    "kustomize.toolkit.fluxcd.io/force": "enabled",
}


@policy
def nodes_can_be_taken_away(objects: list[Manifest]) -> Iterator[str]:
    """The cluster autoscaler may move every pod: it takes an emptyDir for data unless told."""
    for workload in workloads(objects):
        volumes = {
            volume["name"]
            for volume in pod_of(workload)["spec"].get("volumes", [])
            if "emptyDir" in volume
        }
        told = pod_of(workload)["metadata"].get("annotations", {}).get(_SAFE_VOLUMES, "")
        if volumes != set(filter(None, told.split(","))):
            yield f"{title(workload)}: holds its node for {', '.join(volumes) or told}"


@policy
def roll_outs_have_the_time(objects: list[Manifest]) -> Iterator[str]:
    """A roll-out that goes on is not reported as failed; where one makes room, its stop counts."""
    for deployment in of_kind(objects, "Deployment"):
        spec, pod = deployment["spec"], pod_of(deployment)["spec"]
        probe = pod["containers"][0].get("startupProbe", {})
        needed = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        if spec["strategy"]["rollingUpdate"]["maxSurge"] == 0:
            needed += pod["terminationGracePeriodSeconds"]
        if spec["progressDeadlineSeconds"] <= needed:
            yield f"{title(deployment)}: takes up to {needed} s, and counts as failed before"


@policy
def jobs_can_be_applied_again(objects: list[Manifest]) -> Iterator[str]:
    """A Job, which cannot be changed, goes by itself and is replaced by Argo CD and Flux."""
    for job in of_kind(objects, "Job"):
        if "ttlSecondsAfterFinished" not in job["spec"]:
            yield f"{title(job)}: stays for ever"
        annotations = job["metadata"].get("annotations", {})
        for name, value in _REPLACED_BY.items():
            if annotations.get(name) != value:
                yield f"{title(job)}: stops the next roll-out ({name})"
