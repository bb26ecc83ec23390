"""What API keys allow. By itself, so that to name a scope loads no database."""

from enum import StrEnum


class Scope(StrEnum):
    """What a key allows."""

    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    ADMIN = "admin"
