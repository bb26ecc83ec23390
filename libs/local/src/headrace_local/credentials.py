"""The secrets of one stack: made once, kept in a file that only its owner can read."""

import secrets
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_common.webhooks import secret_from_bytes
from headrace_local.errors import LocalStackError
from headrace_local.files import write_private

_SECRET_BYTES: Final = 32


def _token() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


class Credentials(BaseModel):
    """Every secret of a stack; each default makes a new one."""

    model_config = ConfigDict(extra="forbid")

    valkey_password: str = Field(default_factory=_token)
    postgres_password: str = Field(default_factory=_token)
    access_key_id: str = Field(default_factory=lambda: "HR" + secrets.token_hex(9).upper())
    secret_access_key: str = Field(default_factory=_token)
    webhook_secret: str = Field(
        default_factory=lambda: secret_from_bytes(secrets.token_bytes(_SECRET_BYTES))
    )
    callback_token_secret: str = Field(default_factory=_token)
    #: Made by the database, so that there is none before the first start.
    api_key: str | None = None


def load_or_create(path: Path) -> Credentials:
    """Read the credentials, or make and keep new ones.

    Raises:
        LocalStackError: the file is there and cannot be understood.
    """
    try:
        return Credentials.model_validate_json(path.read_text())
    except FileNotFoundError:
        credentials = Credentials()
        save(path, credentials)
        return credentials
    except ValidationError as error:
        raise LocalStackError(
            f"{path} cannot be read as credentials ({error.error_count()} faults); restore it, or "
            "remove the whole directory to start anew without its data"
        ) from None


def save(path: Path, credentials: Credentials) -> None:
    """Keep the credentials."""
    write_private(path, credentials.model_dump_json(indent=2), durable=True)
