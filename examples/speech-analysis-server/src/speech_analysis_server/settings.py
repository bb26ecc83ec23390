"""Settings of the speech analysis server."""

from pydantic import Field

from headrace_analysis import AnalysisSettings
from headrace_common.settings import ProcessSettings, S3Settings

_MIB = 1024 * 1024


class SpeechSettings(AnalysisSettings, S3Settings, ProcessSettings):
    """Everything that the server reads from the environment."""

    speech_max_audio_bytes: int = Field(
        default=200 * _MIB, ge=1_024, description="Largest recording that is fetched"
    )
    speech_max_reference_bytes: int = Field(
        default=8 * _MIB, ge=1_024, description="Largest TextGrid or pitch file that is fetched"
    )
    speech_max_duration_seconds: float = Field(
        default=600, gt=0, le=3_600, description="Longest recording that is analysed"
    )
    speech_plain_plot: bool = Field(
        default=False,
        description="Draw the curves without axes, words and titles: most of the time of a short "
        "recording goes into those",
    )
    speech_memory_limit_bytes: int = Field(
        default=4096 * _MIB,
        ge=1024 * _MIB,
        description="Address space of the process that decodes and analyses; a crash beyond",
    )
