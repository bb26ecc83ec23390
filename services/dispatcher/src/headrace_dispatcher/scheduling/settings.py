"""Settings of the scheduler."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from headrace_common.settings import SettingsGroup, split_words


class Role(StrEnum):
    """What a dispatcher's process does besides its HTTP API."""

    LANES = "lanes"  #: takes jobs off the lanes, and performs what schedules fired
    SCHEDULER = "scheduler"  #: leads the schedules, or stands by


class SchedulerSettings(SettingsGroup):
    """Who drives the schedules, and when a firing counts as lost."""

    dispatcher_roles: Annotated[tuple[Role, ...], NoDecode] = Field(
        default=(Role.LANES, Role.SCHEDULER),
        min_length=1,
        description="What this process does: `lanes` takes jobs off the lanes, `scheduler` leads "
        "the schedules or stands by; the HTTP API is on all",
    )
    scheduler_lease_seconds: float = Field(
        default=15,
        ge=2,
        le=300,
        description="A leader that gave no sign of life for so long loses its connection, and "
        "another leads",
    )
    firing_lost_after_seconds: float = Field(
        default=30,
        gt=0,
        description="The message of a firing is looked for once nobody took it up for so long",
    )
    firing_timeout_seconds: float = Field(
        default=900,
        gt=0,
        description="House-keeping that runs for longer is begun anew, three times at most",
    )

    _split_roles = field_validator("dispatcher_roles", mode="before")(split_words)

    @property
    def takes_jobs(self) -> bool:
        """Whether this process takes jobs off the lanes."""
        return Role.LANES in self.dispatcher_roles

    @property
    def may_lead(self) -> bool:
        """Whether this process may lead the schedules."""
        return Role.SCHEDULER in self.dispatcher_roles
