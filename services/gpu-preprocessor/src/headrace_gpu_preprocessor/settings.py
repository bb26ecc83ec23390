"""Settings of the gpu-preprocessor: its parts' groups in one."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from headrace_common.settings import DatabaseSettings, ProcessSettings
from headrace_gpu_preprocessor.admission import AdmissionSettings
from headrace_gpu_preprocessor.artifacts.settings import SwiftSettings
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.on_demand.settings import OnDemandSettings
from headrace_gpu_preprocessor.pipeline.settings import PipelineSettings
from headrace_gpu_preprocessor.stream import StreamSettings


class PreprocessorSettings(
    ProcessSettings,
    StreamSettings,
    AdmissionSettings,
    PipelineSettings,
    DetectionSettings,
    SwiftSettings,
    OnDemandSettings,
):
    """Everything that the gpu-preprocessor reads from its environment."""

    database_url: SecretStr | None = Field(
        default=None,
        description="Postgres, for the API keys of its HTTP endpoints; jobs do not need it. "
        "Unset: no key is known, and only LEGACY_OPEN_ENDPOINTS lets anybody in",
    )

    def key_database(self) -> DatabaseSettings | None:
        """Return how to reach the API keys, if they can be reached."""
        if self.database_url is None:
            return None
        return DatabaseSettings(database_url=self.database_url)

    @model_validator(mode="after")
    def _database_can_be_one(self) -> Self:
        self.key_database()
        return self
