"""`headrace verify` on directories, and `headrace keys signing`; test_cameras.py has jobs."""

import base64
import hashlib
import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner, Result

from headrace.main import app
from headrace_common.artifact_sets import (
    ArtifactRecord,
    CodeRecord,
    Findings,
    ModelRecord,
    ProcessMeta,
    SourceRecord,
    encode,
    generate_signing_key,
    key_id,
    public_key_text,
    sign,
    signing_key_text,
)
from headrace_common.contracts.cctv import ArtifactName

KEY = generate_signing_key()
PUBLIC = public_key_text(KEY.public_key())
OTHERS = [name for name in ArtifactName if name is not ArtifactName.PROCESS_META]
DOCUMENT = Path(__file__).parents[2] / "docs/reference/artifacts.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set as it is downloaded, signed by KEY."""
    directory = tmp_path / "set"
    directory.mkdir()
    for name in OTHERS:
        (directory / name).write_bytes(f"content of {name}".encode() * 100)
    meta = ProcessMeta(
        job_id="job-1",
        cctv_id="L010146",
        folder="preprocess/L010146/job-1/20261125T201500.000Z/",
        timestamp="20261125T201500.000Z",
        attempt=0,
        source=SourceRecord(url="https://cam.example.org/길.m3u8", seconds=20),
        clip={},
        frames={},
        model=ModelRecord(name="m", sha256="0" * 64, labels=("D00",), threshold=0.35),
        code=CodeRecord(service="gpu-preprocessor", version="0.1.0"),
        timings_seconds={"reading": 20.25},
        findings=Findings(quality=0.9, damages=0, damaged_share=0),
        created_at=datetime(2026, 11, 25, 20, 15, 30, tzinfo=UTC),
        artifacts={
            name: ArtifactRecord(
                sha256=hashlib.sha256((directory / name).read_bytes()).hexdigest(),
                bytes=(directory / name).stat().st_size,
                content_type=name.content_type,
            )
            for name in OTHERS
        },
    )
    (directory / ArtifactName.PROCESS_META).write_bytes(encode(sign(meta, KEY)))
    return directory


def run(*arguments: str | Path, **environment: str) -> Result:
    env = {"META_VERIFY_KEYS": "", "META_SIGNING_KEY": "", "HEADRACE_HOME": "/nowhere"}
    return CliRunner().invoke(app, [*map(str, arguments)], env={**env, **environment})


def wrong(folder: Path, *arguments: str) -> dict[str, set[str]]:
    """Verify, which must fail; return the artefacts that are wrong, with their faults."""
    done = run("verify", folder, *(arguments or ("--public-key", PUBLIC)), "--json")
    assert done.exit_code == 1, done.output
    report: dict[str, Any] = json.loads(done.output)
    assert report["ok"] is False
    assert report["process_meta"] is None
    return {
        each["name"]: {fault["code"] for fault in each["faults"]}
        for each in report["artifacts"]
        if not each["ok"]
    }


def test_a_valid_set(folder: Path) -> None:
    done = run("verify", folder, "--public-key", PUBLIC)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [["ok", name.value] for name in ArtifactName]
    assert lines[5].startswith("Valid: job job-1 of camera L010146")
    assert lines[5].endswith(f"signed by key {key_id(KEY.public_key())}.")
    report = json.loads(run("verify", folder, "--public-key", PUBLIC, "--json").output)
    assert report["ok"]
    assert report["process_meta"]["cctv_id"] == "L010146"


def test_keys_come_from_options_files_and_settings(folder: Path, tmp_path: Path) -> None:
    other = public_key_text(generate_signing_key().public_key())
    pem = tmp_path / "key.pem"
    pem.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for arguments, environment in (
        (("--public-key", other, "--public-key", PUBLIC), {}),
        (("--public-key", str(pem)), {"META_VERIFY_KEYS": other}),
        ((), {"META_VERIFY_KEYS": f"{other}, {PUBLIC}"}),
        ((), {"META_SIGNING_KEY": signing_key_text(KEY)}),
    ):
        assert run("verify", folder, *arguments, **environment).exit_code == 0
    assert run("verify", folder, META_VERIFY_KEYS=other).exit_code == 1
    for arguments in ((), ("--public-key", "nonsense"), ("--public-key", str(folder))):
        assert run("verify", folder, *arguments).exit_code != 0


def test_one_changed_byte_in_each(folder: Path) -> None:
    for name in ArtifactName:
        path = folder / name
        right = path.read_bytes()
        changed = bytearray(right)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        assert name in wrong(folder), name
        path.unlink()
        assert "missing" in wrong(folder)[name]
        path.write_bytes(right)
    assert run("verify", folder, "--public-key", PUBLIC).exit_code == 0


def test_two_swapped(folder: Path) -> None:
    first, second = folder / ArtifactName.BACKGROUND, folder / ArtifactName.DAMAGE_RESULT
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert set(wrong(folder)) == {first.name, second.name}


def test_another_key_and_no_signature(folder: Path) -> None:
    name = ArtifactName.PROCESS_META
    other = generate_signing_key()
    public = public_key_text(other.public_key())
    assert wrong(folder, "--public-key", public) == {name: {"unknown_key"}}
    meta = ProcessMeta.model_validate_json((folder / name).read_bytes())
    (folder / name).write_bytes(encode(sign(meta, other)))
    assert wrong(folder) == {name: {"unknown_key"}}
    (folder / name).write_bytes(encode(meta.model_copy(update={"signature": None})))
    assert wrong(folder) == {name: {"signature_missing"}}
    printed = run("verify", folder, "--public-key", PUBLIC)
    assert printed.exit_code == 1
    assert "WRONG process_meta.json" in printed.output
    assert "Not valid: 1 fault." in printed.output


def test_what_a_set_says_does_not_reach_the_terminal_unchecked(folder: Path) -> None:
    path = folder / ArtifactName.PROCESS_META
    content = json.loads(path.read_bytes())
    content["signature"]["key_id"] = "\x1b[2J" + "x" * 1000
    content["\x1b]0;title\x07"] = 1
    path.write_text(json.dumps(content))
    printed = run("verify", folder, "--public-key", PUBLIC).output
    assert "\x1b" not in printed
    assert "\x07" not in printed


def test_a_new_key_pair_signs_and_verifies() -> None:
    pair = json.loads(run("keys", "signing", "--json").output)
    lines = run("keys", "signing").output.splitlines()
    assert lines[2].startswith("META_SIGNING_KEY=")
    assert lines[3].startswith("META_VERIFY_KEYS=")
    assert len(base64.b64decode(pair["META_SIGNING_KEY"])) == 32
    assert pair["META_SIGNING_KEY"] not in lines[2]


def test_the_documents_commands_verify_without_our_code(folder: Path, tmp_path: Path) -> None:
    """What docs/reference/artifacts.md tells others to do works, and finds a forgery."""
    script = re.search(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert script is not None
    command = ["bash", "-euo", "pipefail", "-c", script[1].replace("META_VERIFY_KEY_HERE", PUBLIC)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("OK") == 4
    assert "Signature Verified Successfully" in done.stdout
    for name in (ArtifactName.BACKGROUND, ArtifactName.PROCESS_META):
        path = folder / name
        right = path.read_bytes()
        path.write_bytes(right.replace(b"0", b"1", 1).replace(b"content", b"Content", 1))
        again = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        assert again.returncode != 0
        path.write_bytes(right)
