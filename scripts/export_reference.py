"""Write what the reference documentation takes from the code, or check that it is true.

The OpenAPI files of the services, and the tables of all settings and of all metrics.

python scripts/export_reference.py [--check]
"""

import argparse
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from metrics_reference import metrics_page
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from headrace_common import settings as common
from headrace_common.settings import SettingsGroup
from headrace_dispatcher.app import build_app as build_dispatcher
from headrace_dispatcher.settings import DispatcherSettings
from headrace_gpu_preprocessor.admission import AdmissionSettings
from headrace_gpu_preprocessor.app import build_app as build_preprocessor
from headrace_gpu_preprocessor.artifacts import SwiftSettings
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.on_demand.settings import OnDemandSettings
from headrace_gpu_preprocessor.pipeline.settings import PipelineSettings
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_gpu_preprocessor.stream import StreamSettings
from headrace_ingest_api.app import build_app as build_ingest_api
from headrace_ingest_api.settings import IngestSettings
from headrace_results.app import build_app as build_results
from headrace_results.settings import ResultsSettings
from speech_analysis_server.settings import SpeechSettings

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

#: Just enough to build the apps; nothing is connected to.
SETTINGS: dict[str, Any] = {
    "database_url": "postgresql://nobody@localhost/none",
    "analysis_server_url": "http://localhost:9/analyze",
    "webhook_url": "http://localhost:8002/webhooks/analysis",
    "webhook_secrets": ["whsec_" + base64.b64encode(bytes(32)).decode()],
    "os_auth_url": "http://localhost:5000/v3",
    "os_username": "nobody",
    "os_password": "nothing",
    "os_project_name": "none",
}

#: Headings of the settings page, each with the class that its table shows.
GROUPS: dict[str, type[SettingsGroup]] = {
    "Every process": common.ProcessSettings,
    "Postgres": common.DatabaseSettings,
    "Redis": common.RedisSettings,
    "Stream of camera jobs": common.JobStreamSettings,
    "AWS credentials": common.AwsSettings,
    "S3": common.S3Settings,
    "SQS": common.SqsSettings,
    "Webhooks": common.WebhookSettings,
    "ingest-api": IngestSettings,
    "dispatcher": DispatcherSettings,
    "results": ResultsSettings,
    "gpu-preprocessor: the job stream": StreamSettings,
    "gpu-preprocessor: clips and backgrounds": PipelineSettings,
    "gpu-preprocessor: detection": DetectionSettings,
    "gpu-preprocessor: memory guard": AdmissionSettings,
    "gpu-preprocessor: Swift and signature": SwiftSettings,
    "gpu-preprocessor: detection on demand": OnDemandSettings,
    "gpu-preprocessor: the rest": PreprocessorSettings,
    "speech-analysis-server": SpeechSettings,
}


def apps() -> dict[str, FastAPI]:
    """Build every service's app."""
    return {
        "ingest-api": build_ingest_api(IngestSettings.model_validate(SETTINGS)),
        "dispatcher": build_dispatcher(DispatcherSettings.model_validate(SETTINGS)),
        "results": build_results(ResultsSettings.model_validate(SETTINGS)),
        "gpu-preprocessor": build_preprocessor(PreprocessorSettings.model_validate(SETTINGS)),
    }


def files() -> Iterator[tuple[Path, str]]:
    """Yield every file with what it should say."""
    for name, app in apps().items():
        text = json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"
        yield REFERENCE / "openapi" / f"{name}.json", text
    yield REFERENCE / "settings.md", settings_page()
    yield REFERENCE / "metrics.md", metrics_page()


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "All by environment variable. Durations are seconds.",
        "Lists are words between commas or spaces.",
        "A process with impossible settings does not start, and says which and why.",
        "",
        "<!-- Written by `make reference` from the settings classes. -->",
    ]
    for heading, group in GROUPS.items():
        fields = {name: group.model_fields[name] for name in _own_fields(group)}
        lines += ["", f"## {heading}", "", *_groups_of(group)]
        lines += ["| variable | default | |", "|---|---|---|"]
        lines += [*(_row(name, field) for name, field in sorted(fields.items()))]
    return "\n".join(lines) + "\n"


def _own_fields(group: type[SettingsGroup]) -> list[str]:
    """Return the fields that a group does not have from another one on the page."""
    inherited = {
        name
        for base in group.__mro__[1:]
        if base in GROUPS.values()
        for name in base.__annotations__
    }
    overridden = set(group.__annotations__)
    return [name for name in group.model_fields if name in overridden or name not in inherited]


def _groups_of(group: type[SettingsGroup]) -> list[str]:
    """Say which of the groups above belong to a service."""
    known = {value: key for key, value in GROUPS.items()}
    above = [known[base] for base in group.__mro__[1:] if base in known]
    return [f"Besides: {', '.join(reversed(above))}.", ""] if len(above) > 1 else []


def _row(name: str, field: FieldInfo) -> str:
    names = [name]
    if isinstance(field.validation_alias, AliasChoices):
        names = [str(choice) for choice in field.validation_alias.choices]
    variable = " or ".join(f"`{each.upper()}`" for each in names)
    return f"| {variable} | {_default(field)} | {field.description or ''} |"


def _default(field: FieldInfo) -> str:
    default = field.default
    if field.default_factory is not None:
        return ""  # made from others, as the description says
    if default is PydanticUndefined:
        return "**required**"
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or default == ():
        return ""
    if isinstance(default, tuple):
        default = " ".join(str(word) for word in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def main() -> int:
    """Write or check; return 1 where a file is not what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    stale = []
    for path, text in files():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path)
    for path in stale:
        print(f"{path.relative_to(REFERENCE.parents[1])} is out of date: run `make reference`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
