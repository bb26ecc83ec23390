"""Settings of house-keeping: how often the built-in schedules fire, and how long records stay."""

from datetime import timedelta

from pydantic import Field

from headrace_common.settings import SettingsGroup
from headrace_dispatcher.scheduling.triggers import SHORTEST_SECONDS


def _interval(default: float, description: str) -> float:
    made: float = Field(
        default=default, ge=SHORTEST_SECONDS, le=7 * 86_400, description=description
    )
    return made


class HouseKeepingSettings(SettingsGroup):
    """The defaults of the built-in schedules; what an operator changed there stays."""

    sweep_interval_seconds: float = _interval(
        5, "How often lost and stuck audio jobs are looked for"
    )
    cctv_sweep_seconds: float = _interval(10, "How often lost camera jobs are looked for")
    storage_sweep_seconds: float = _interval(
        5, "How often what ended uploads left in S3 is looked for"
    )
    storage_scan_seconds: float = _interval(
        3_600, "How often S3 is searched for what belongs to no job"
    )
    stream_trim_seconds: float = _interval(
        300, "How often entries that no group needs are removed from the streams"
    )
    job_purge_seconds: float = _interval(
        120, "How often finished jobs whose retention is over are removed"
    )
    result_expiry_seconds: float = _interval(
        3_600, "How often stored artefacts whose retention is over are removed"
    )
    records_tidy_seconds: float = _interval(
        3_600, "How often records whose retention is over are removed"
    )
    audit_retention_days: float = Field(
        default=365, gt=0, description="How long it is kept who did what to the installation"
    )
    firing_retention_days: float = Field(
        default=30,
        gt=0,
        description="How long firings that ended are kept; those of house-keeping a day",
    )
    idempotency_key_hours: float = Field(
        default=24, ge=24, description="How long an Idempotency-Key is remembered"
    )

    @property
    def audit_retention(self) -> timedelta:
        """How long the audit trail is kept."""
        return timedelta(days=self.audit_retention_days)

    @property
    def firing_retention(self) -> timedelta:
        """How long firings are kept that ended."""
        return timedelta(days=self.firing_retention_days)

    @property
    def idempotency_key_lifetime(self) -> timedelta:
        """How long an Idempotency-Key is remembered."""
        return timedelta(hours=self.idempotency_key_hours)
