"""Sets of artefacts that can be trusted later: `process_meta.json`, its signature, verification.

Shared by the service that makes the sets and the command line that checks them. Needs the extra
`signing`.
"""

from headrace_common.artifact_sets.canonical import canonical_json
from headrace_common.artifact_sets.keys import (
    generate_signing_key,
    key_id,
    public_key_text,
    read_public_keys,
    read_signing_key,
    signing_key_text,
)
from headrace_common.artifact_sets.meta import (
    ArtifactRecord,
    CodeRecord,
    Findings,
    ModelRecord,
    ProcessFacts,
    ProcessMeta,
    Signature,
    SourceRecord,
    encode,
    public_url,
    sign,
)
from headrace_common.artifact_sets.verification import (
    ArtifactCheck,
    Fault,
    FaultCode,
    VerificationReport,
    verify,
)

__all__ = [
    "ArtifactCheck",
    "ArtifactRecord",
    "CodeRecord",
    "Fault",
    "FaultCode",
    "Findings",
    "ModelRecord",
    "ProcessFacts",
    "ProcessMeta",
    "Signature",
    "SourceRecord",
    "VerificationReport",
    "canonical_json",
    "encode",
    "generate_signing_key",
    "key_id",
    "public_key_text",
    "public_url",
    "read_public_keys",
    "read_signing_key",
    "sign",
    "signing_key_text",
    "verify",
]
