"""Settings of the object store, and of the key that signs."""

from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, Field, SecretStr, field_validator

from headrace_common.artifact_sets import read_signing_key
from headrace_common.contracts.cctv import DEFAULT_CONTAINER, DEFAULT_UPLOAD_PREFIX
from headrace_common.settings import HttpUrlText, SettingsGroup


def _identity_v3(url: str) -> str:
    """Complete the URL of Keystone: many write it without its version."""
    last = url.rpartition("/")[2]
    if last.startswith("v2"):
        raise ValueError("must be Identity v3")
    return url if last == "v3" else f"{url}/v3"


def _temp_url_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be at least 16 printable ASCII characters without spaces")
    return key


def _prefix(prefix: str) -> str:
    if prefix.startswith("/") or "//" in prefix or not prefix.isprintable():
        raise ValueError("must neither begin with a slash nor have an empty part")
    return prefix


IdentityUrl = Annotated[HttpUrlText, AfterValidator(_identity_v3)]
TempUrlKey = Annotated[SecretStr, AfterValidator(_temp_url_key)]


class SwiftSettings(SettingsGroup):
    """OpenStack Swift, where the artefacts go, with Keystone before it."""

    os_auth_url: IdentityUrl = Field(description="Keystone, Identity v3; /v3 is added if missing")
    os_username: str = Field(min_length=1)
    os_password: SecretStr
    os_project_name: str = Field(min_length=1)
    os_region_name: str | None = Field(default=None, description="Unset: the catalogue's only one")
    os_user_domain_name: str = "Default"
    os_project_domain_name: str = "Default"
    os_cacert: str | None = Field(
        default=None, description="File with the authorities that sign Keystone's and Swift's TLS"
    )
    swift_interface: Literal["public", "internal", "admin"] = Field(
        default="public", description="Which of Swift's addresses in the catalogue is used"
    )
    swift_container: Annotated[str, Field(pattern=r"^[^/]{1,256}$")] = DEFAULT_CONTAINER
    swift_upload_prefix: Annotated[str, AfterValidator(_prefix)] = DEFAULT_UPLOAD_PREFIX
    swift_temp_url_key: TempUrlKey | None = Field(
        default=None,
        description="Set on the container, so that whoever has it (results) can sign links",
    )
    swift_temp_url_key_2: TempUrlKey | None = Field(
        default=None, description="A second key that signs too, while the first is changed"
    )
    swift_connect_timeout_seconds: float = Field(default=5, gt=0, le=60)
    swift_read_timeout_seconds: float = Field(
        default=30, gt=0, le=600, description="A server silent for so long does not answer"
    )
    swift_retries: int = Field(
        default=5,
        ge=0,
        le=20,
        description="Times a call is repeated at once, with growing pauses; then the job is put "
        "back for later",
    )
    meta_signing_key: SecretStr | None = Field(
        default=None,
        description="Ed25519 seed, 32 bytes in base64 (`headrace keys signing` makes one). "
        "Unset: process_meta.json is not signed",
    )

    @field_validator("meta_signing_key")
    @classmethod
    def _usable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_signing_key(value.get_secret_value())
        return value

    def signing_key(self) -> Ed25519PrivateKey | None:
        """Return the key that signs, if there is one."""
        if self.meta_signing_key is None:
            return None
        return read_signing_key(self.meta_signing_key.get_secret_value())
