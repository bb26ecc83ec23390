"""Strict schemas of what the manifests are made of.

Those of Kubernetes' own kinds are the package kubernetes-validate's. It reads all definitions anew
for each object, so that its files are used here without its functions. Those of KEDA's, Prometheus
operator's and External Secrets' kinds are in schemas/: only what we use of them, so that whatever
else is written is refused until somebody has looked it up.
"""

import functools
import importlib.resources
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import referencing
from jsonschema import Draft202012Validator
from k8s_manifests import Manifest, title

#: The oldest and the newest version that the manifests are for.
VERSIONS: Final = ("1.33.0", "1.37.0")
_OWN: Final = Path(__file__).with_name("schemas")
_PACKAGED: Final = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"


@functools.cache
def _registry(folder: str) -> Any:
    definitions = json.loads((_PACKAGED / folder / "_definitions.json").read_text())
    return referencing.Resource.from_contents(definitions) @ referencing.Registry()


@functools.cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator | None:
    own = _OWN / f"{kind.lower()}.json"
    if own.exists():
        schema = json.loads(own.read_text())
        is_it = schema["properties"]["apiVersion"]["const"] == api_version
        return Draft202012Validator(schema) if is_it else None
    folder = f"v{version}-local-strict"
    # networking.k8s.io/v1 is networking-v1 there.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    packaged = _PACKAGED / folder / f"{kind.lower()}-{group}.json"
    if not packaged.is_file():
        return None
    schema = json.loads(packaged.read_text())
    return Draft202012Validator(schema, registry=_registry(folder))


def faults(manifest: Manifest, version: str) -> Iterator[str]:
    """Yield what is wrong with an object; one that no schema is known of is wrong."""
    validator = _validator(manifest["apiVersion"], manifest["kind"], version)
    if validator is None:
        yield f"{title(manifest)}: no schema of {manifest['apiVersion']} {manifest['kind']}"
        return
    for error in validator.iter_errors(manifest):
        place = ".".join(str(part) for part in error.absolute_path)
        yield f"{title(manifest)}, {place}: {error.message[:300]}"
