"""More policies: of what scales the Deployments."""

import re
from collections import Counter
from collections.abc import Iterator

from k8s_manifests import Manifest, named, of_kind, pod_of, title
from k8s_policies import policy


@policy
def one_scaler_at_most(objects: list[Manifest]) -> Iterator[str]:
    """What scales a Deployment exists once, finds it, and is the only one that sets replicas."""
    scalers = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    targets = Counter(each["spec"]["scaleTargetRef"]["name"] for each in scalers)
    deployments = {each["metadata"]["name"]: each for each in of_kind(objects, "Deployment")}
    for name, count in targets.items():
        if name not in deployments:
            yield f"scaled: {name}, which is no Deployment"
        elif count > 1:
            yield f"Deployment {name}: {count} scalers"
        elif "replicas" in deployments[name]["spec"]:
            yield f"Deployment {name}: applying the manifests sets its replicas back"
    for name in deployments.keys() - targets.keys():
        if "replicas" not in deployments[name]["spec"]:
            yield f"Deployment {name}: nobody says how many"


@policy
def queues_are_scaled_with_care(objects: list[Manifest]) -> Iterator[str]:
    """KEDA has a fallback within the limits, logs in by reference, and takes pods away slowly."""
    accounts = {each["metadata"]["name"] for each in of_kind(objects, "TriggerAuthentication")}
    for scaled in of_kind(objects, "ScaledObject"):
        spec = scaled["spec"]
        fallback = spec.get("fallback", {})
        if not spec["minReplicaCount"] <= fallback.get("replicas", -1) <= spec["maxReplicaCount"]:
            yield f"{title(scaled)}: no fallback within its limits"
        if fallback.get("behavior") != "currentReplicasIfHigher":
            yield f"{title(scaled)}: loses pods while nothing can be counted"
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        if down["stabilizationWindowSeconds"] < 300 or down["policies"][0]["value"] != 1:
            yield f"{title(scaled)}: takes pods away in haste"
        names = [trigger["name"] for trigger in spec["triggers"]]
        formula = spec["advanced"]["scalingModifiers"]["formula"]
        if sorted(re.findall(r"[a-z]+", formula)) != sorted(names):
            yield f"{title(scaled)}: its formula does not count every trigger once"
        for trigger in spec["triggers"]:
            if trigger["authenticationRef"]["name"] not in accounts:
                yield f"{title(scaled)}: {trigger['name']} logs in with what there is not"


@policy
def redis_is_asked_as_it_wants(objects: list[Manifest]) -> Iterator[str]:
    """KEDA asks the Redis of the services, over TLS where they do."""
    for scaled in of_kind(objects, "ScaledObject"):
        container = pod_of(named(objects, "Deployment", scaled["spec"]["scaleTargetRef"]["name"]))
        config = container["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
        url = named(objects, "ConfigMap", config)["data"]["REDIS_URL"]
        scheme, _, rest = url.partition("://")
        for trigger in scaled["spec"]["triggers"]:
            if not trigger["type"].startswith("redis"):
                continue
            metadata = trigger["metadata"]
            if metadata["address"] != rest.partition("/")[0]:
                yield f"{title(scaled)}: asks {metadata['address']}"
            # A lane of another database is empty for ever.
            if metadata.get("databaseIndex", "0") != (rest.partition("/")[2] or "0"):
                yield f"{title(scaled)}: asks another database than {rest}"
            if (metadata.get("enableTLS") == "true") != (scheme == "rediss"):
                yield f"{title(scaled)}: {scheme}, and TLS is {metadata.get('enableTLS')}"
