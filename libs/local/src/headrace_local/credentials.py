"""The secrets of one stack: made once, kept in a file that only its owner can read."""

import base64
import secrets
from functools import cache
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
    keystone_admin_password: str = Field(default_factory=_token)
    #: Of the user whom our services are.
    openstack_password: str = Field(default_factory=_token)
    #: Of Swift itself, which asks Keystone about tokens.
    swift_password: str = Field(default_factory=_token)
    #: Opens the servers behind Swift's proxy.
    swift_storage_key: str = Field(default_factory=_token)
    #: With others than those that an object was stored with, it is not found.
    swift_hash_prefix: str = Field(default_factory=_token)
    swift_hash_suffix: str = Field(default_factory=_token)
    swift_temp_url_key: str = Field(default_factory=_token)
    #: Seed of an Ed25519 key, in base64.
    meta_signing_key: str = Field(
        default_factory=lambda: base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    )
    #: Made by the database, so that there is none before the first start.
    api_key: str | None = None

    @property
    def meta_verify_key(self) -> str:
        """The public key of `meta_signing_key`, in base64."""
        return _public_key(self.meta_signing_key)


@cache
def _public_key(signing_key: str) -> str:
    from headrace_common.artifact_sets import keys  # noqa: PLC0415 - only a whole stack wants it

    return keys.public_key_text(keys.read_signing_key(signing_key).public_key())


def load_or_create(path: Path) -> Credentials:
    """Read the credentials, or make and keep new ones; those that are missing are added.

    Raises:
        LocalStackError: the file is there and cannot be understood.
    """
    try:
        credentials = Credentials.model_validate_json(path.read_text())
    except FileNotFoundError:
        credentials = Credentials()
    except ValidationError as error:
        raise LocalStackError(
            f"{path} cannot be read as credentials ({error.error_count()} faults); restore it, or "
            "remove the whole directory to start anew without its data"
        ) from None
    if credentials.model_fields_set != Credentials.model_fields.keys():
        save(path, credentials)
    return credentials


def save(path: Path, credentials: Credentials) -> None:
    """Keep the credentials."""
    write_private(path, credentials.model_dump_json(indent=2), durable=True)
