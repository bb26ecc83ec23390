"""`tokens`: reference items, and the files that recordings are compared with."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace import completion
from headrace.client import Client
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, console, print_fields, print_json, print_table

app = typer.Typer(help="Tokens: reference items that recordings imitate.", no_args_is_help=True)

TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN", autocompletion=completion.token_ids)]
TextGridOption = Annotated[
    str | None, typer.Option("--textgrid", help="Praat TextGrid: a file, or an s3:// URL.")
]
PitchOption = Annotated[
    str | None, typer.Option("--pitch", help="Reference pitch JSON: a file, or an s3:// URL.")
]


@app.command("create")
def create(
    token_id: Annotated[
        str | None, typer.Argument(metavar="[TOKEN]", help="Made if left out.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What it is, for people.")] = None,
    textgrid: TextGridOption = None,
    pitch: PitchOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Create a token."""
    references = _References(textgrid=textgrid, pitch=pitch)
    body = {"id": token_id, "title": title, **references.urls}
    with Client() as client:
        token = client.ingest("POST", "/tokens", json=_set_only(body))
        try:
            token = references.store(client, token)
        except CommandError:
            # All or nothing: the same command, mended, must work.
            client.ingest("DELETE", f"/tokens/{token['id']}")
            raise
        _show(token, as_json=as_json)


@app.command("update")
def update(
    token_id: TokenArgument,
    title: Annotated[str | None, typer.Option(help="What it is, for people.")] = None,
    textgrid: TextGridOption = None,
    pitch: PitchOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Change a token."""
    references = _References(textgrid=textgrid, pitch=pitch)
    with Client() as client:
        body = _set_only({"title": title, **references.urls})
        token = client.ingest("PATCH", f"/tokens/{token_id}", json=body)
        _show(references.store(client, token), as_json=as_json)


@app.command("list")
def list_tokens(
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50, *, as_json: JsonOption = False
) -> None:
    """List tokens."""
    with Client() as client:
        page = client.ingest("GET", "/tokens", params={"limit": limit})
    if as_json:
        print_json(page)
        return
    print_table(
        ("TOKEN", "TITLE", "TEXTGRID", "PITCH"),
        [(t["id"], t["title"], t["s3_textgrid_url"], t["s3_pitch_url"]) for t in page["tokens"]],
    )


@app.command("show")
def show(token_id: TokenArgument, *, as_json: JsonOption = False) -> None:
    """Show a token."""
    with Client() as client:
        _show(client.ingest("GET", f"/tokens/{token_id}"), as_json=as_json)


@app.command("delete")
def delete(token_id: TokenArgument) -> None:
    """Delete a token; jobs that used it stay as they are."""
    with Client() as client:
        client.ingest("DELETE", f"/tokens/{token_id}")
    console.print(f"Deleted {token_id}.")


class _References:
    """References given on the command line: URLs go into the token, files are uploaded."""

    def __init__(self, *, textgrid: str | None, pitch: str | None) -> None:
        given = {"textgrid": textgrid, "pitch": pitch}
        self.urls = {f"s3_{kind}_url": value for kind, value in given.items() if _is_url(value)}
        self._files = {
            kind: Path(value) for kind, value in given.items() if value and not _is_url(value)
        }
        for path in self._files.values():
            if not path.is_file():
                raise CommandError(f"no such file: {path}", ExitCode.USAGE)

    def store(self, client: Client, token: dict[str, Any]) -> dict[str, Any]:
        """Upload the files and return the token as it is then."""
        for kind, path in self._files.items():
            token = client.put_reference(token["id"], kind, path)
        return token


def _is_url(value: str | None) -> bool:
    return value is not None and value.startswith("s3://")


def _set_only(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not None}


def _show(token: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(token)
        return
    fields = ("id", "title", "s3_textgrid_url", "s3_pitch_url", "created_at", "updated_at")
    print_fields((name, token[name]) for name in fields)
    if token.get("metadata"):
        print_fields([("metadata", json.dumps(token["metadata"]))])
