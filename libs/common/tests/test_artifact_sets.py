"""A set that was touched is found out, and how."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from headrace_common.artifact_sets import (
    ArtifactRecord,
    CodeRecord,
    FaultCode,
    Findings,
    ModelRecord,
    ProcessMeta,
    SourceRecord,
    canonical_json,
    encode,
    generate_signing_key,
    key_id,
    public_key_text,
    public_url,
    read_public_keys,
    read_signing_key,
    sign,
    signing_key_text,
    verify,
)
from headrace_common.contracts.cctv import ArtifactName

KEY = read_signing_key(base64.b64encode(bytes(range(32))).decode())
PUBLIC = KEY.public_key()
META = ArtifactName.PROCESS_META
OTHERS = [name for name in ArtifactName if name is not META]
FILES: dict[str, bytes] = {name: f"content of {name}".encode() for name in OTHERS}


def make_meta() -> ProcessMeta:
    return ProcessMeta(
        job_id="job-1",
        cctv_id="L010146",
        folder="preprocess/L010146/job-1/20261125T201500.000Z/",
        timestamp="20261125T201500.000Z",
        attempt=0,
        source=SourceRecord(url="https://cam.example.org/길/live.m3u8", seconds=20),
        clip={"frames": 500, "gaps": []},
        frames={"samples": 50},
        model=ModelRecord(name="m", sha256="0" * 64, labels=("D00", "D40"), threshold=0.35),
        code=CodeRecord(service="gpu-preprocessor", version="0.1.0"),
        timings_seconds={"reading": 20.25, "detecting": 1e-7},
        findings=Findings(quality=0.9, damages=1, damaged_share=0.01),
        created_at=datetime(2026, 11, 25, 20, 15, 30, tzinfo=UTC),
        artifacts={
            ArtifactName(name): ArtifactRecord(
                sha256=hashlib.sha256(data).hexdigest(),
                bytes=len(data),
                content_type=ArtifactName(name).content_type,
            )
            for name, data in FILES.items()
        },
    )


def make_set() -> dict[str, bytes]:
    return {**FILES, META: encode(sign(make_meta(), KEY))}


def codes(files: dict[str, bytes], *keys: Any) -> set[tuple[str, str]]:
    report = verify(files, keys or (PUBLIC,))
    return {(fault.artifact, fault.code) for fault in report.faults}


def test_a_right_set_is_right() -> None:
    report = verify(make_set(), [generate_signing_key().public_key(), PUBLIC], job_id="job-1")
    assert report.ok
    assert [check.name for check in report.checks] == list(ArtifactName)
    assert report.meta is not None
    assert report.meta.signature is not None
    assert report.meta.signature.key_id == key_id(PUBLIC)
    # The form is a contract: other programs check it too.
    data = make_set()[META]
    content = json.loads(data)
    value = base64.b64decode(content.pop("signature")["value"])
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    PUBLIC.verify(value, text.encode())


def test_every_changed_byte_is_found() -> None:
    """In process_meta.json each single one, in each of three ways; in the others some."""
    files = make_set()
    meta = files[META]
    for position, byte in enumerate(meta):
        for other in {byte ^ 1, byte ^ 0x20, 0x20} - {byte}:
            changed = bytearray(meta)
            changed[position] = other
            assert codes({**files, META: bytes(changed)}), (position, chr(byte), chr(other))
    for name in OTHERS:
        for position in (0, len(files[name]) // 2, -1):
            changed = bytearray(files[name])
            changed[position] ^= 1
            assert codes({**files, name: bytes(changed)}) == {(name, FaultCode.HASH)}


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_cut_and_padded_files_are_found(cut: int) -> None:
    files = make_set()
    for name in OTHERS:
        changed = files[name][:cut] if cut <= 0 else files[name] + b"\n"
        assert codes({**files, name: changed}) == {(name, FaultCode.SIZE), (name, FaultCode.HASH)}
        assert codes({key: data for key, data in files.items() if key != name}) == {
            (name, FaultCode.MISSING)
        }


def test_swapped_files_are_found() -> None:
    files = make_set()
    first, second = ArtifactName.BACKGROUND, ArtifactName.DAMAGE_RESULT
    swapped = {**files, first: files[second], second: files[first]}
    assert {name for name, _ in codes(swapped)} == {first, second}


def test_a_set_without_its_meta_vouches_for_nothing() -> None:
    assert codes(FILES) == {
        (META, FaultCode.MISSING),
        *((name, FaultCode.NOT_LISTED) for name in OTHERS),
    }


def test_keys_and_signatures() -> None:
    files = make_set()
    other = generate_signing_key()
    assert codes(files, other.public_key()) == {(META, FaultCode.UNKNOWN_KEY)}
    unsigned = {**files, META: encode(make_meta())}
    assert codes(unsigned) == {(META, FaultCode.SIGNATURE_MISSING)}
    # Signed anew by somebody else, under our key's name.
    forged = sign(make_meta(), other)
    assert forged.signature is not None
    named = forged.signature.model_copy(update={"key_id": key_id(PUBLIC)})
    forged = forged.model_copy(update={"signature": named})
    assert codes({**files, META: encode(forged)}) == {(META, FaultCode.SIGNATURE_INVALID)}


def test_another_jobs_set_is_found() -> None:
    report = verify(make_set(), [PUBLIC], job_id="job-2")
    assert [(fault.artifact, fault.code) for fault in report.faults] == [
        (META, FaultCode.OTHER_JOB)
    ]


def _signed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Our own signature over something odd."""
    content = json.loads(encode(make_meta()))
    change(content)
    value = base64.b64encode(KEY.sign(canonical_json(content))).decode()
    signature = {"algorithm": "Ed25519", "key_id": key_id(PUBLIC), "value": value}
    return canonical_json({**content, "signature": signature})


def test_a_signed_set_that_lists_not_all_is_not_right() -> None:
    data = _signed(lambda content: content["artifacts"].pop(ArtifactName.BACKGROUND))
    assert codes({**make_set(), META: data}) == {(ArtifactName.BACKGROUND, FaultCode.NOT_LISTED)}
    assert not codes({**make_set(), META: _signed(dict.copy)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b"9" * 10_000,
        _signed(lambda content: content.update(version=2)),
        _signed(lambda content: content.update(more=1)),
        _signed(lambda content: content["artifacts"].update({"other.jpg": {}})),
        _signed(lambda content: content.update(artifacts=[])),
    ],
)
def test_nonsense_is_malformed(data: bytes) -> None:
    assert (META, FaultCode.MALFORMED) in codes({**FILES, META: data})


def test_two_ways_to_read_it_are_one_too_many() -> None:
    data = make_set()[META]
    for changed in (
        data.replace(b'{"artifacts"', b'{"artifacts":{},"artifacts"', 1),
        json.dumps(json.loads(data)).encode(),
        data + b"\n",
    ):
        assert codes({**FILES, META: changed}) == {(META, FaultCode.NOT_CANONICAL)}


def test_keys_as_text() -> None:
    assert read_signing_key(signing_key_text(KEY) + "\n").public_key() == PUBLIC
    second = generate_signing_key().public_key()
    both = f"{public_key_text(PUBLIC)}, {public_key_text(second)}\n"
    assert read_public_keys(both) == [PUBLIC, second]
    pem = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert read_public_keys(f"a comment\n{pem}{pem}") == [PUBLIC, PUBLIC]
    assert read_public_keys("") == []
    for bad in ("x", "AAAA", base64.b64encode(bytes(33)).decode(), "secret key!"):
        with pytest.raises(ValueError, match="32 bytes in base64") as raised:
            read_signing_key(bad)
        assert bad not in str(raised.value)
        with pytest.raises(ValueError, match="32 bytes in base64"):
            read_public_keys(bad)
    with pytest.raises(ValueError, match="no Ed25519 public key"):
        read_public_keys("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")


def test_what_is_no_json_is_not_written() -> None:
    assert (
        canonical_json({"b": 1.5, "a": ["é", "\n", None]})
        == '{"a":["é","\\n",null],"b":1.5}'.encode()
    )
    for value in (float("nan"), float("inf"), "\ud800"):
        with pytest.raises(ValueError):
            canonical_json({"a": value})
    with pytest.raises(ValidationError):
        ArtifactRecord(sha256="0" * 63, bytes=0, content_type="image/jpeg")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "https://user:pw@cam.example.org:8443/a/b.m3u8?token=x#y",
            "https://cam.example.org:8443/a/b.m3u8",
        ),
        ("http://user@[::1]:80/a", "http://[::1]:80/a"),
        ("http://a@b@host/x", "http://host/x"),
        ("https://host", "https://host"),
        ("https://host/hdnts=exp=1~acl=%2f*~hmac=abc/x.m3u8", "https://host/hdnts=[redacted]"),
        ("https://host/hdnts=[redacted]", "https://host/hdnts=[redacted]"),
        ("https://host/cam=3/x.m3u8", "https://host/cam=3/x.m3u8"),
    ],
)
def test_secrets_of_a_url_are_not_told(url: str, told: str) -> None:
    assert public_url(url) == told
