"""docker-compose.yml as Compose itself reads it."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import compose
from pydantic import AliasChoices

from headrace_common.settings import ProcessSettings
from headrace_dispatcher.settings import DispatcherSettings
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_ingest_api.settings import IngestSettings
from headrace_results.settings import ResultsSettings
from speech_analysis_server.settings import SpeechSettings

ROOT: Final = Path(__file__).resolve().parents[2]
GENERATOR: Final = ROOT / "scripts" / "compose_env.py"
#: Compose's own program; the script beside Python swallows its exit status.
_PROGRAM: Final = Path(compose.__file__).with_name("docker-compose")

PROFILES: Final = ("core", "cctv", "gpu", "observability")
#: Our services, each with what it reads its environment by.
SETTINGS: Final[dict[str, type[ProcessSettings]]] = {
    "ingest-api": IngestSettings,
    "dispatcher": DispatcherSettings,
    "results": ResultsSettings,
    "analysis-server": SpeechSettings,
    "gpu-preprocessor": PreprocessorSettings,
    "gpu-preprocessor-cuda": PreprocessorSettings,
}
#: Where each listens within the network: our services by their image, the servers as usual.
PORTS: Final = {
    **dict.fromkeys(SETTINGS, 8000),
    "postgres": 5432,
    "valkey": 6379,
    "s3": 8333,
    "sqs": 4566,
    "keystone": 5000,
    "swift": 8080,
}
#: The local stack is told to be quick, for tests; containers have the services' own defaults.
TUNED_FOR_TESTS: Final = {
    "ANALYSIS_DEADLINE_SECONDS",
    "ANALYSIS_HEARTBEAT_SECONDS",
    "ANALYSIS_WAIT_SECONDS",
    "CCTV_LOST_AFTER_SECONDS",
    "FIRING_LOST_AFTER_SECONDS",
    "LOST_AFTER_SECONDS",
    "RETRY_BASE_SECONDS",
    "STORAGE_DISCARD_RETRY_SECONDS",
    "STORAGE_SCAN_SECONDS",
}

Compose = dict[str, Any]


def run(*arguments: str, env_file: Path) -> subprocess.CompletedProcess[str]:
    """Run Compose on the project's file, with nothing of this process's environment."""
    command = [str(_PROGRAM), "--env-file", str(env_file), "-f", str(ROOT / "docker-compose.yml")]
    return subprocess.run(
        [*command, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": os.defpath, "HOME": str(env_file.parent)},
    )


def read(env_file: Path, profiles: Iterable[str]) -> Compose:
    """Return the file, checked against Compose's schema and with all variables replaced."""
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    done = run(*chosen, "config", "--format", "json", env_file=env_file)
    assert done.returncode == 0, done.stderr
    read: Compose = json.loads(done.stdout)
    return read


def variables_of(settings: type[ProcessSettings]) -> set[str]:
    """Return the names by which a service's settings can be given."""
    names: set[str] = set()
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [name]
        names |= {str(choice).upper() for choice in choices}
    return names


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """Return a service's environment."""
    return {name: value or "" for name, value in (service.get("environment") or {}).items()}
