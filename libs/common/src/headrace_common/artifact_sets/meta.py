"""`process_meta.json`: what was made of which clip, by what, and the hashes of the result."""

import base64
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from headrace_common.artifact_sets.canonical import canonical_json
from headrace_common.artifact_sets.keys import key_id
from headrace_common.contracts.cctv import ArtifactName
from headrace_common.telemetry.secrets import without_secrets

ALGORITHM: Final = "Ed25519"
SIGNATURE: Final = "signature"
#: The artefacts whose hashes process_meta.json holds: all but itself.
RECORDED: Final = tuple(name for name in ArtifactName if name is not ArtifactName.PROCESS_META)


def public_url(url: str) -> str:
    """Return a URL as it may be told: without user, password, query and fragment.

    What looks like a token in its path, the Akamai way, is left out as well.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return without_secrets(urlunsplit((parts.scheme, host, parts.path, "", "")))


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceRecord(_Record):
    """What was looked at."""

    url: Annotated[str, AfterValidator(public_url)] = Field(
        description="Of the stream, without user, password and query"
    )
    seconds: float = Field(gt=0, description="Length that was asked for")


class ModelRecord(_Record):
    """The detector."""

    name: str
    sha256: str = Field(description="Of the weights' file")
    labels: tuple[str, ...]
    threshold: float = Field(description="Score from which a box counts")


class CodeRecord(_Record):
    """What made the set."""

    service: str
    version: str


class Findings(_Record):
    """The result in figures, as the job's record gets it."""

    quality: float = Field(ge=0, le=1, description="Of the background")
    damages: int = Field(ge=0)
    damages_by_class: dict[str, int] = Field(default_factory=dict)
    damaged_share: float = Field(ge=0, le=1, description="Of the road, by area")
    worst_severity: str | None = None
    summary: dict[str, JsonValue] = Field(default_factory=dict)


class ProcessFacts(_Record):
    """What the one who processed a job tells of it."""

    attempt: int = Field(ge=0)
    source: SourceRecord
    clip: dict[str, JsonValue] = Field(description="What was read, and what was missing")
    frames: dict[str, JsonValue] = Field(description="Which frames the background is made of")
    model: ModelRecord
    code: CodeRecord
    timings_seconds: dict[str, float]
    findings: Findings


class ArtifactRecord(_Record):
    """One artefact of the set."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    content_type: str


class Signature(_Record):
    """Over the canonical JSON of everything else."""

    algorithm: Literal["Ed25519"] = ALGORITHM
    key_id: str = Field(description="First 16 hexadecimal digits of the public key's SHA-256")
    value: str = Field(description="64 bytes in base64")


class ProcessMeta(ProcessFacts):
    """The content of `process_meta.json`."""

    version: Literal[1] = 1
    job_id: str
    cctv_id: str
    folder: str = Field(description="Path of the set within the container, ends with a slash")
    timestamp: str = Field(description="When the set was begun: the folder's last part")
    artifacts: dict[ArtifactName, ArtifactRecord]
    created_at: datetime
    signature: Signature | None = None


def encode(meta: ProcessMeta) -> bytes:
    """Return the file: canonical JSON, so that one content has one form."""
    return canonical_json(_as_json(meta))


def sign(meta: ProcessMeta, key: Ed25519PrivateKey) -> ProcessMeta:
    """Return it signed; a signature that it has is replaced."""
    signature = Signature(
        key_id=key_id(key.public_key()),
        value=base64.b64encode(key.sign(signed_bytes(_as_json(meta)))).decode(),
    )
    return meta.model_copy(update={SIGNATURE: signature})


def signed_bytes(content: dict[str, Any]) -> bytes:
    """Return what a signature covers: the canonical JSON of all but the signature.

    Raises:
        ValueError: see `canonical_json`.
    """
    return canonical_json({name: value for name, value in content.items() if name != SIGNATURE})


def _as_json(meta: ProcessMeta) -> dict[str, Any]:
    content = meta.model_dump(mode="json")
    if meta.signature is None:
        del content[SIGNATURE]
    return content
