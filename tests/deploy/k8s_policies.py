"""What must be true of the manifests of every overlay; each policy yields its faults."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from k8s_manifests import (
    Manifest,
    all_containers,
    labels_of,
    matches,
    of_kind,
    pod_of,
    secret_references,
    title,
    workloads,
)

Policy = Callable[[list[Manifest]], Iterator[str]]

POLICIES: Final[list[Policy]] = []

#: The only kinds of volumes that the restricted Pod Security Standard leaves, and that we need.
_VOLUMES: Final = {"name", "emptyDir", "configMap", "secret", "projected"}


def policy(check: Policy) -> Policy:
    """Add a policy to those that are checked."""
    POLICIES.append(check)
    return check


@policy
def resources_are_bounded(objects: list[Manifest]) -> Iterator[str]:
    """Every container says what it needs, and what it may take."""
    for name, _, container in all_containers(objects):
        resources = container.get("resources", {})
        for side in ("requests", "limits"):
            missing = {"cpu", "memory", "ephemeral-storage"} - resources.get(side, {}).keys()
            if missing:
                yield f"{name}: no {side} of {', '.join(sorted(missing))}"


@policy
def pods_are_restricted(objects: list[Manifest]) -> Iterator[str]:
    """The pod's half of the restricted Pod Security Standard, and a user that is named."""
    for workload in workloads(objects):
        spec = pod_of(workload)["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{title(workload)}: may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{title(workload)}: no seccomp profile"
        if any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{title(workload)}: shares the node's name spaces"
        for volume in spec.get("volumes", []):
            if volume.keys() - _VOLUMES:
                yield f"{title(workload)}: volume {volume['name']} of a kind that is not allowed"


@policy
def containers_are_restricted(objects: list[Manifest]) -> Iterator[str]:
    """The container's half, and a root file system that nobody writes to."""
    for name, _, container in all_containers(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: writes to its root file system"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: keeps capabilities"
        if context.keys() & {"privileged", "runAsUser", "runAsNonRoot", "seccompProfile"}:
            yield f"{name}: takes back what its pod says"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: takes a port of its node"


@policy
def the_name_space_enforces_it(objects: list[Manifest]) -> Iterator[str]:
    """Pod Security is enforced, warned of and audited; everything is in the one name space."""
    spaces = of_kind(objects, "Namespace")
    if len(spaces) != 1:
        yield f"{len(spaces)} name spaces"
        return
    labels = spaces[0]["metadata"].get("labels", {})
    for mode in ("enforce", "audit", "warn"):
        if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"Pod Security does not {mode}"
    for each in objects:
        inside = each["metadata"].get("namespace") == spaces[0]["metadata"]["name"]
        if each is not spaces[0] and not inside:
            yield f"{title(each)} is elsewhere"


@policy
def nobody_talks_to_the_api_server(objects: list[Manifest]) -> Iterator[str]:
    """Each workload has an account of its own, and no token of it; no roles are given."""
    accounts = Counter(
        pod_of(each)["spec"].get("serviceAccountName") for each in workloads(objects)
    )
    for workload in workloads(objects):
        spec = pod_of(workload)["spec"]
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{title(workload)}: has a token"
        account = spec.get("serviceAccountName")
        if accounts[account] > 1 or account == "default":
            yield f"{title(workload)}: shares its account"
        elif account not in {
            each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")
        }:
            yield f"{title(workload)}: its account is missing"
    for account in of_kind(objects, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{title(account)}: gives tokens"
    for given in of_kind(objects, "RoleBinding", "ClusterRoleBinding", "Role", "ClusterRole"):
        yield f"{title(given)}: nobody here needs one"


@policy
def images_stand_still(objects: list[Manifest]) -> Iterator[str]:
    """Images are named by a digest or a tag; none that moves."""
    for name, _, container in all_containers(objects):
        image = container["image"]
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if "@sha256:" not in image and tag in {"", "latest", "main", "master", "stable"}:
            yield f"{name}: {image} may be another tomorrow"


@policy
def secrets_are_referred_to(objects: list[Manifest]) -> Iterator[str]:
    """No secret stands in a manifest; and where Secrets are made, those referred to are."""
    for each in of_kind(objects, "Secret"):
        yield f"{title(each)}: a secret in the manifests"
    for name, _, container in all_containers(objects):
        for entry in container.get("env", []):
            secret = re.search(r"SECRET|PASSWORD|KEY|TOKEN|DATABASE_URL|USERNAME", entry["name"])
            if secret and "value" in entry:
                yield f"{name}: the value of {entry['name']} stands there"
    made = {
        (each["spec"]["target"]["name"], data["secretKey"])
        for each in of_kind(objects, "ExternalSecret")
        for data in each["spec"]["data"]
    }
    if made:
        for name, _, container in all_containers(objects):
            for _, secret_name, key in secret_references(container):
                if (secret_name, key) not in made:
                    yield f"{name}: nobody makes {key} of {secret_name}"


@policy
def probes_fit_the_role(objects: list[Manifest]) -> Iterator[str]:
    """Every process that serves is probed; liveness asks nobody else, and begins once it runs."""
    for workload in of_kind(objects, "Deployment"):
        for container in pod_of(workload)["spec"]["containers"]:
            name = f"{title(workload)}, {container['name']}"
            for probe, path in (
                ("startupProbe", "/health/live"),
                ("livenessProbe", "/health/live"),
                ("readinessProbe", "/health/ready"),
            ):
                if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
                    yield f"{name}: {probe} is not {path}"
            if [port["name"] for port in container.get("ports", [])] != ["http"]:
                yield f"{name}: has no port of the name that its probes use"


@policy
def services_lead_somewhere(objects: list[Manifest]) -> Iterator[str]:
    """Each Service selects the pods of one Deployment, at a port that they have."""
    for service in of_kind(objects, "Service"):
        chosen = [
            each
            for each in of_kind(objects, "Deployment")
            if matches({"matchLabels": service["spec"]["selector"]}, labels_of(each))
        ]
        if len(chosen) != 1:
            yield f"{title(service)}: selects {len(chosen)} Deployments"
            continue
        ports = {
            port["name"]
            for container in pod_of(chosen[0])["spec"]["containers"]
            for port in container["ports"]
        }
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{title(service)}: {port['targetPort']} is no port of its pods"


@policy
def selectors_select_their_own(objects: list[Manifest]) -> Iterator[str]:
    """A Deployment, and what spreads its pods, selects them and no others."""
    deployments = of_kind(objects, "Deployment")
    for each in deployments:
        spread = pod_of(each)["spec"].get("topologySpreadConstraints", [])
        keys = {constraint["topologyKey"] for constraint in spread}
        if keys != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{title(each)}: is not spread over zones and nodes"
        for selector in [each["spec"]["selector"], *(one["labelSelector"] for one in spread)]:
            chosen = [other for other in deployments if matches(selector, labels_of(other))]
            if chosen != [each]:
                yield f"{title(each)}: selects {[title(one) for one in chosen]}"


@policy
def disruptions_are_limited(objects: list[Manifest]) -> Iterator[str]:
    """Each Deployment has a budget, which lets nodes be drained; each budget has a Deployment."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    for deployment in of_kind(objects, "Deployment"):
        count = sum(matches(each["spec"]["selector"], labels_of(deployment)) for each in budgets)
        if count != 1:
            yield f"{title(deployment)}: {count} budgets"
    for budget in budgets:
        chosen = [
            each
            for each in of_kind(objects, "Deployment")
            if matches(budget["spec"]["selector"], labels_of(each))
        ]
        if len(chosen) != 1:
            yield f"{title(budget)}: selects {len(chosen)} Deployments"
        if budget["spec"].get("maxUnavailable") != 1:
            yield f"{title(budget)}: may hold up the drain of a node"


@policy
def routes_lead_somewhere(objects: list[Manifest]) -> Iterator[str]:
    """Each route's Service and port exist, and a Gateway takes it whose name somebody gave."""
    ports = {
        (each["metadata"]["name"], port["port"])
        for each in of_kind(objects, "Service")
        for port in each["spec"]["ports"]
    }
    for route in of_kind(objects, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            if "replaced" in parent.values():
                yield f"{title(route)}: the overlay names no Gateway"
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if (backend["name"], backend["port"]) not in ports:
                    yield f"{title(route)}: no Service {backend}"


@policy
def ingresses_lead_somewhere(objects: list[Manifest]) -> Iterator[str]:
    """Each rule's host has a certificate, and its Service and port exist."""
    for ingress in of_kind(objects, "Ingress"):
        covered = {host for each in ingress["spec"].get("tls", []) for host in each["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule["host"] not in covered:
                yield f"{title(ingress)}: {rule['host']} without TLS"
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = {
                    (each["metadata"]["name"], port["name"])
                    for each in of_kind(objects, "Service")
                    for port in each["spec"]["ports"]
                }
                if (backend["name"], backend["port"]["name"]) not in ports:
                    yield f"{title(ingress)}: no Service {backend}"
