"""`verify` and `keys signing`: whether a camera job's artefacts are what was made of the clip."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from headrace.client import Client, job_path
from headrace.connection import find_environment
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, print_json
from headrace_common import artifact_sets
from headrace_common.artifact_sets import ArtifactCheck, VerificationReport
from headrace_common.contracts.cctv import ArtifactName

#: No artefact comes near; what has more bytes is none.
_MAX_BYTES: Final = 128 * 1024 * 1024
_TIMEOUT: Final = httpx.Timeout(60, connect=5)
_VERIFY_KEYS: Final = "META_VERIFY_KEYS"
_SIGNING_KEY: Final = "META_SIGNING_KEY"


def verify(
    target: Annotated[
        str, typer.Argument(help="A camera job's id, or a directory with the five files.")
    ],
    public_key: Annotated[
        list[str] | None,
        typer.Option(
            "--public-key",
            help="A key that is trusted: base64, or a file with keys in base64 or PEM; repeat for "
            f"more. By default those of {_VERIFY_KEYS}, else that of {_SIGNING_KEY}.",
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check that a set is whole, unchanged and signed. Exits 1 unless everything is valid."""
    keys = _find_keys(public_key or [])
    directory = Path(target)
    if directory.is_dir():
        report = artifact_sets.verify(_read_directory(directory), keys)
    else:
        report = artifact_sets.verify(_fetch(target), keys, job_id=target)
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(ExitCode.FAILED)


def make_signing_key(*, as_json: JsonOption = False) -> None:
    """Make a key pair that signs artefacts, and print it, the only time that it can be read."""
    key = artifact_sets.generate_signing_key()
    public = key.public_key()
    pair = {
        _SIGNING_KEY: artifact_sets.signing_key_text(key),
        _VERIFY_KEYS: artifact_sets.public_key_text(public),
    }
    if as_json:
        print_json({**pair, "key_id": artifact_sets.key_id(public)})
        return
    typer.echo(f"# Key {artifact_sets.key_id(public)}. {_SIGNING_KEY} is a secret of the")
    typer.echo("# gpu-preprocessor's; the other is for everybody who verifies.")
    for name, value in pair.items():
        typer.echo(f"{name}={value}")


def _find_keys(given: list[str]) -> list[Ed25519PublicKey]:
    environment = find_environment()
    try:
        if given:
            texts = [_text_of(each) for each in given]
            return [key for text in texts for key in artifact_sets.read_public_keys(text)]
        if text := environment.get(_VERIFY_KEYS):
            return artifact_sets.read_public_keys(text)
        if text := environment.get(_SIGNING_KEY):
            return [artifact_sets.read_signing_key(text).public_key()]
    except ValueError as error:
        raise CommandError(f"a key cannot be read: {error}", ExitCode.USAGE) from None
    raise CommandError(
        f"whose keys are trusted? Set {_VERIFY_KEYS} or --public-key", ExitCode.USAGE
    )


def _text_of(given: str) -> str:
    """Return a key as text: the option itself, or what the file has that it names."""
    path = Path(given)
    try:
        return path.read_text() if path.is_file() else given
    except OSError as error:
        raise CommandError(f"{given}: {error.strerror}", ExitCode.USAGE) from None


def _read_directory(directory: Path) -> dict[str, bytes]:
    files = {}
    for name in ArtifactName:
        path = directory / name
        try:
            with path.open("rb") as file:
                files[name.value] = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
        _check_size(name, len(files[name.value]))
    return files


def _fetch(job_id: str) -> dict[str, bytes]:
    """Download a job's artefacts by the links that the results service gives."""
    with Client() as client:
        answer = client.results("GET", f"{job_path(job_id)}/artifacts")
    listed: list[dict[str, Any]] = answer["artifacts"]
    urls = {each["name"]: each["url"] for each in listed if each["name"] in {*ArtifactName}}
    if not urls:
        raise CommandError(f"job {job_id} has no set of artefacts", ExitCode.NOT_FOUND)
    if unlinked := sorted(name for name, url in urls.items() if url is None):
        raise CommandError(
            f"the results service makes no links to {', '.join(unlinked)}: see SWIFT_TEMP_URL_KEY",
            ExitCode.REFUSED,
        )
    # Another client: the API key is not for the object store.
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as plain:
        found = {name: _download(plain, name, url) for name, url in urls.items()}
    return {name: data for name, data in found.items() if data is not None}


def _download(client: httpx.Client, name: str, url: str) -> bytes | None:
    """Return a file; None if it is not there."""
    data = bytearray()
    with _store_errors(name), client.stream("GET", url) as answer:
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            data += piece
            _check_size(name, len(data))
    return bytes(data)


@contextmanager
def _store_errors(name: str) -> Iterator[None]:
    """Tell what the object store said, without the URL: its signature is a credential."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        code = ExitCode.UNAVAILABLE if status >= 500 else ExitCode.REFUSED
        raise CommandError(f"the object store answers {status} for {name}", code) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"no {name} from the object store: {type(error).__name__}"
        raise CommandError(message, ExitCode.UNAVAILABLE) from None


def _check_size(name: str, size: int) -> None:
    if size > _MAX_BYTES:
        raise CommandError(f"{name} has more than {_MAX_BYTES} bytes: it is no artefact")


def _print(report: VerificationReport) -> None:
    for check in report.checks:
        typer.echo(_line(check))
    meta = report.meta
    if not report.ok or meta is None or meta.signature is None:
        count = len(report.faults)
        typer.echo(f"Not valid: {count} fault{'s' if count > 1 else ''}.")
        return
    typer.echo(
        f"Valid: job {meta.job_id} of camera {meta.cctv_id}, made {meta.created_at:%F %T %Z}, "
        f"signed by key {meta.signature.key_id}."
    )


def _line(check: ArtifactCheck) -> str:
    name = f"{check.name.value:<21}"
    if check.ok:
        return f"ok    {name} {check.bytes:>9} bytes  sha256 {check.sha256}"
    return f"WRONG {name} " + "; ".join(fault.message for fault in check.faults)


def _as_json(report: VerificationReport) -> Mapping[str, Any]:
    """Return the report; what the set says of itself is there only if it can be believed."""
    trusted = report.meta.model_dump(mode="json") if report.ok and report.meta else None
    return {
        "ok": report.ok,
        "artifacts": [
            {
                "name": check.name.value,
                "ok": check.ok,
                "bytes": check.bytes,
                "sha256": check.sha256,
                "faults": [
                    {"code": fault.code.value, "message": fault.message} for fault in check.faults
                ],
            }
            for check in report.checks
        ],
        "process_meta": trusted,
    }
