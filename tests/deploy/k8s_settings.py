"""The settings that the containers of the manifests read."""

import os
from typing import Final

import pytest
from k8s_manifests import Manifest, filled_environment, named, pod_of
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from headrace_common.settings import DatabaseSettings, SettingsGroup
from headrace_dispatcher.settings import DispatcherSettings
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_ingest_api.settings import IngestSettings
from headrace_results.settings import ResultsSettings
from speech_analysis_server.settings import SpeechSettings

#: The settings that a module reads, by what its command names.
SETTINGS: Final[dict[str, type[SettingsGroup]]] = {
    "headrace_ingest_api": IngestSettings,
    "headrace_dispatcher": DispatcherSettings,
    "headrace_results": ResultsSettings,
    "headrace_gpu_preprocessor": PreprocessorSettings,
    "speech_analysis_server": SpeechSettings,
    "headrace_common.db": DatabaseSettings,
    "headrace_common.db.await_schema": DatabaseSettings,
}


def module_of(container: Manifest) -> str:
    python, flag, module = container["command"]
    assert (python, flag) == ("python", "-m")
    return str(module)


def names_of(settings: type[SettingsGroup]) -> set[str]:
    """Return the variables that a class reads."""
    return {name for field, info in settings.model_fields.items() for name in _names(field, info)}


def _names(field: str, info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices]
    return [field.upper()]


def load(
    monkeypatch: pytest.MonkeyPatch, objects: list[Manifest], container: Manifest
) -> SettingsGroup:
    """Read the settings of a container as its process would."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in filled_environment(objects, container).items():
        monkeypatch.setenv(name, value)
    return SETTINGS[module_of(container)].load()


def main_container(objects: list[Manifest], name: str) -> Manifest:
    container: Manifest = pod_of(named(objects, "Deployment", name))["spec"]["containers"][0]
    return container
