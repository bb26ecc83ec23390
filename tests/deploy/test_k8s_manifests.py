"""Every overlay renders, is valid, and keeps the policies; and each policy sees what it is for."""

import json
from collections.abc import Callable

import k8s_operations  # noqa: F401 - adds its policies
import k8s_scaling
import k8s_schemas
import pytest
from k8s_manifests import EVERYTHING, OVERLAYS, Manifest, named, render, render_folder
from k8s_policies import POLICIES, Policy

Change = Callable[[list[Manifest]], object]


@pytest.mark.parametrize("version", k8s_schemas.VERSIONS)
@pytest.mark.parametrize("overlay", [*OVERLAYS, EVERYTHING])
def test_every_object_is_valid(overlay: str, version: str) -> None:
    objects = render(overlay)
    assert [fault for each in objects for fault in k8s_schemas.faults(each, version)] == []
    assert {"Deployment", "Job", "PodDisruptionBudget", "Service"} <= {
        each["kind"] for each in objects
    }


def test_the_monitoring_package_is_valid_and_can_be_applied() -> None:
    objects = render_folder("monitoring")
    version = k8s_schemas.VERSIONS[0]
    assert [fault for each in objects for fault in k8s_schemas.faults(each, version)] == []
    assert {each["kind"] for each in objects} == {"ConfigMap", "PrometheusRule"}
    # kubectl keeps what it applied in an annotation, of which an object has no more.
    assert max(len(json.dumps(each)) for each in objects) < 256 * 1024


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("overlay", [*OVERLAYS, EVERYTHING])
def test_every_policy_is_kept(overlay: str, policy: Policy) -> None:
    assert list(policy(render(overlay))) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda objects: _spec(objects).update(replica=3),
        lambda objects: _pod(objects).update(terminationGracePeriodSeconds="long"),
        lambda objects: _container(objects)["securityContext"].update(privilegd=True),
        lambda objects: _scaled(objects).update(minReplicas=1),
        lambda objects: _scaled(objects)["triggers"][0]["metadata"].update(listLength=5),
        lambda objects: _scaled(objects)["triggers"][0].update(type="rediss"),
        lambda objects: _first(objects, "ScaledObject").update(apiVersion="keda.sh/v1"),
        lambda objects: _first(objects, "HTTPRoute")["spec"]["rules"][0].update(timeout="1s"),
    ],
)
def test_a_fault_makes_an_object_invalid(change: Change) -> None:
    objects = render(EVERYTHING)
    change(objects)
    for version in k8s_schemas.VERSIONS:
        assert [fault for each in objects for fault in k8s_schemas.faults(each, version)] != []


def _planted() -> dict[str, Change]:
    """Return for each policy a change that breaks it."""
    return {
        "resources_are_bounded": lambda objects: _container(objects)["resources"].pop("limits"),
        "pods_are_restricted": lambda objects: _pod(objects)["securityContext"].pop("runAsNonRoot"),
        "containers_are_restricted": lambda objects: _container(objects)["securityContext"].update(
            readOnlyRootFilesystem=False
        ),
        "the_name_space_enforces_it": lambda objects: _first(objects, "Namespace")["metadata"][
            "labels"
        ].pop("pod-security.kubernetes.io/enforce"),
        "nobody_talks_to_the_api_server": lambda objects: _pod(objects).pop(
            "automountServiceAccountToken"
        ),
        "images_stand_still": lambda objects: _container(objects).update(
            image="registry:5000/headrace/dispatcher"
        ),
        "secrets_are_referred_to": lambda objects: _container(objects)["env"].append(
            {"name": "REDIS_PASSWORD", "value": "secret"}
        ),
        "probes_fit_the_role": lambda objects: _container(objects)["livenessProbe"].update(
            httpGet={"path": "/health/ready", "port": "http"}
        ),
        "services_lead_somewhere": lambda objects: _first(objects, "Service")["spec"].update(
            selector={"app.kubernetes.io/name": "dispatch"}
        ),
        "selectors_select_their_own": lambda objects: _spec(objects)["selector"].update(
            matchLabels={"app.kubernetes.io/part-of": "headrace"}
        ),
        "disruptions_are_limited": lambda objects: _first(objects, "PodDisruptionBudget")[
            "spec"
        ].update(maxUnavailable=0),
        "routes_lead_somewhere": lambda objects: _first(objects, "HTTPRoute")["spec"]["rules"][0][
            "backendRefs"
        ][0].update(port=80),
        "ingresses_lead_somewhere": lambda objects: _first(objects, "Ingress")["spec"].pop("tls"),
        "one_scaler_at_most": lambda objects: _spec(objects).update(replicas=2),
        "queues_are_scaled_with_care": lambda objects: _scaled(objects).pop("fallback"),
        "nodes_can_be_taken_away": lambda objects: _spec(objects)["template"]["metadata"].pop(
            "annotations"
        ),
        "roll_outs_have_the_time": lambda objects: named(objects, "Deployment", "gpu-preprocessor")[
            "spec"
        ].update(progressDeadlineSeconds=600),
        "jobs_can_be_applied_again": lambda objects: _first(objects, "Job")["spec"].pop(
            "ttlSecondsAfterFinished"
        ),
        "redis_is_asked_as_it_wants": lambda objects: _scaled(objects)["triggers"][0][
            "metadata"
        ].pop("enableTLS"),
    }


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_every_policy_sees_what_it_is_for(policy: Policy) -> None:
    objects = render(EVERYTHING)
    _planted()[policy.__name__](objects)
    assert list(policy(objects)) != []


def test_a_lane_of_another_database_is_seen() -> None:
    objects = render(EVERYTHING)
    _scaled(objects)["triggers"][1]["metadata"]["databaseIndex"] = "3"
    assert list(k8s_scaling.redis_is_asked_as_it_wants(objects)) != []


def _first(objects: list[Manifest], kind: str) -> Manifest:
    return next(each for each in objects if each["kind"] == kind)


def _spec(objects: list[Manifest]) -> Manifest:
    found: Manifest = named(objects, "Deployment", "dispatcher")["spec"]
    return found


def _pod(objects: list[Manifest]) -> Manifest:
    found: Manifest = _spec(objects)["template"]["spec"]
    return found


def _container(objects: list[Manifest]) -> Manifest:
    found: Manifest = _pod(objects)["containers"][0]
    return found


def _scaled(objects: list[Manifest]) -> Manifest:
    found: Manifest = named(objects, "ScaledObject", "dispatcher")["spec"]
    return found
