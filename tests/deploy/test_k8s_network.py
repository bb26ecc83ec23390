"""The network policies let through the flows that the code needs, and nothing else."""

from itertools import product
from typing import Final

import pytest
from k8s_manifests import OVERLAYS, Manifest, labels_of, matches, named, of_kind, render, workloads

APIS: Final = {"ingest-api", "dispatcher", "results", "gpu-preprocessor"}
PROCESSES: Final = APIS | {"scheduler", "speech-analysis-server"}
DATABASE: Final = APIS | {"scheduler", "migration"}

#: Between workloads: who, whom.
INSIDE: Final = {
    ("dispatcher", "speech-analysis-server"),
    ("scheduler", "speech-analysis-server"),
    ("speech-analysis-server", "results"),
}
#: Who gets in from which other name space.
INWARD: Final = {
    **{(name, "envoy-gateway-system"): {"TCP http"} for name in APIS},
    **{(name, "monitoring"): {"TCP http"} for name in PROCESSES},
}
#: What a workload reaches in other name spaces, or in networks by the overlay's name for them.
OUTWARD: Final = {
    **{(name, "kube-system"): {"UDP 53", "TCP 53"} for name in PROCESSES | {"migration"}},
    **{(name, "monitoring"): {"TCP 4318"} for name in PROCESSES},
    **{(name, "POSTGRES_CIDR"): {"TCP 5432"} for name in DATABASE},
    **{(name, "REDIS_CIDR"): {"TCP 6379"} for name in DATABASE - {"migration"}},
    **{(name, "AWS_CIDR"): {"TCP 443"} for name in PROCESSES - {"gpu-preprocessor"}},
    ("gpu-preprocessor", "SWIFT_CIDR"): {"TCP 443", "TCP 5000", "TCP 8080"},
    ("gpu-preprocessor", "the public internet"): {"TCP 80", "TCP 443", "TCP 8080"},
}
#: What no stream may be read from.
PRIVATE: Final = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"}

Flows = dict[tuple[str, str], set[str]]

GUARDED: Final = ("production", "staging")


def test_only_the_laptop_is_open() -> None:
    open_ones = [each for each in OVERLAYS if not of_kind(render(each), "NetworkPolicy")]
    assert open_ones == ["dev"]
    assert set(GUARDED) == set(OVERLAYS) - {"dev"}


@pytest.mark.parametrize("overlay", GUARDED)
def test_nothing_passes_that_no_policy_names(overlay: str) -> None:
    objects = render(overlay)
    assert named(objects, "NetworkPolicy", "default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


@pytest.mark.parametrize("overlay", GUARDED)
def test_exactly_the_flows_that_are_needed_pass(overlay: str) -> None:
    objects = render(overlay)
    inside, inward = _side(objects, "ingress")
    asking, outward = _side(objects, "egress")
    # A flow between two of ours needs both sides' leave.
    assert {(who, whom) for whom, who in inside} == set(asking) == INSIDE
    assert all(ports == {"TCP http"} for ports in inside.values())
    assert all(ports == {"TCP 8000"} for ports in asking.values())
    assert inward == INWARD
    assert outward == OUTWARD


def _side(objects: list[Manifest], direction: str) -> tuple[Flows, Flows]:
    """Return what passes from or to workloads, and from or to elsewhere, with its ports."""
    between: Flows = {}
    elsewhere: Flows = {}
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get(direction, []):
            [peer] = rule["from" if direction == "ingress" else "to"]
            ports = {f"{port['protocol']} {port['port']}" for port in rule["ports"]}
            chosen = _workloads(objects, policy["spec"]["podSelector"])
            assert chosen, f"{policy['metadata']['name']} is of no workload"
            if "namespaceSelector" in peer or "ipBlock" in peer:
                flows, peers = elsewhere, [_place(objects, peer, policy["metadata"]["name"])]
            else:
                flows, peers = between, _workloads(objects, peer["podSelector"])
                assert peers, f"{policy['metadata']['name']}: its peer is no workload"
            for pair in product(chosen, peers):
                flows.setdefault(pair, set()).update(ports)
    return between, elsewhere


def _workloads(objects: list[Manifest], selector: Manifest) -> list[str]:
    for each in selector.get("matchExpressions", []):
        known = {labels_of(workload).get(each["key"]) for workload in workloads(objects)}
        assert set(each["values"]) <= known, f"{each['values']}: not all of them exist"
    return [
        each["metadata"]["name"]
        for each in workloads(objects)
        if matches(selector, labels_of(each))
    ]


def _place(objects: list[Manifest], peer: Manifest, policy: str) -> str:
    if "namespaceSelector" in peer:
        labels = peer["namespaceSelector"]["matchLabels"]
        return str(labels["kubernetes.io/metadata.name"])
    block = peer["ipBlock"]
    if "except" in block:
        assert block["cidr"] == "0.0.0.0/0"
        assert set(block["except"]) >= PRIVATE
        return "the public internet"
    assert block["cidr"] != "192.0.2.0/32", f"{policy}: the overlay says no network"
    return f"{policy.removeprefix('to-').upper()}_CIDR"
