"""`cameras add`, `list`, `show`, `change` and `remove`: cameras that jobs can name."""

import json
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from headrace import completion
from headrace.client import Client
from headrace.failures import CommandError, ExitCode
from headrace.output import JsonOption, console, print_fields, print_json, print_table
from headrace_common.contracts.cctv import MAX_CLIP_SECONDS

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completion.camera_names)
]
RegionOption = Annotated[
    Path | None,
    typer.Option(
        help="JSON file: where the road is, as polygons of points x, y from 0 to 1.",
        exists=True,
        dir_okay=False,
    ),
]
ClipOption = Annotated[
    float | None,
    typer.Option(min=0.1, max=MAX_CLIP_SECONDS, help="To read, where a job does not say."),
]
DescriptionOption = Annotated[str | None, typer.Option(help="For people.")]
_REST: Final = ("description", "created_by", "created_at", "updated_at")


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The cctvId of its jobs.")],
    hls: Annotated[str, typer.Argument(metavar="HLS", help="URL of its HLS playlist.")],
    region: RegionOption = None,
    seconds: ClipOption = None,
    description: DescriptionOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Register a camera, so that jobs and schedules can name it."""
    body = {"name": name, "hls": hls, **_given(region, seconds, description)}
    with Client() as client:
        _show(client.ingest("POST", "/cameras", json=body), as_json=as_json)


def list_cameras(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List registered cameras, newest first."""
    params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
    with Client() as client:
        page = client.ingest("GET", "/cameras", params=params)
    if as_json:
        print_json(page)
        return
    print_table(
        ("CAMERA", "SECONDS", "REGION", "STREAM", "DESCRIPTION"),
        [
            (
                each["name"],
                f"{each['seconds']:g}",
                _polygons(each),
                each["hls"],
                each["description"],
            )
            for each in page["cameras"]
        ],
    )
    if page["next_cursor"]:
        console.print(f"More: --cursor {page['next_cursor']}", style="dim", soft_wrap=True)


def show(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Show a camera; of its URL only what lets nobody in."""
    with Client() as client:
        _show(client.ingest("GET", camera_path(name)), as_json=as_json)


def change(
    name: NameArgument,
    hls: Annotated[str | None, typer.Option(help="URL of its HLS playlist.")] = None,
    region: RegionOption = None,
    seconds: ClipOption = None,
    description: DescriptionOption = None,
    *,
    no_region: Annotated[
        bool, typer.Option("--no-region", help="As the preprocessor's file of regions says.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Change a camera: what is not given stays. Jobs that exist stay as they are."""
    if region is not None and no_region:
        raise CommandError("say either --region or --no-region", ExitCode.USAGE)
    body = _given(region, seconds, description) | ({"hls": hls} if hls is not None else {})
    if no_region:
        body["region"] = None
    if not body:
        raise CommandError("say what is to change", ExitCode.USAGE)
    with Client() as client:
        _show(client.ingest("PATCH", camera_path(name), json=body), as_json=as_json)


def remove(name: NameArgument) -> None:
    """Remove a camera; its jobs stay."""
    with Client() as client:
        client.ingest("DELETE", camera_path(name))
    console.print(f"Removed {name}.", highlight=False, markup=False)


def camera_path(name: str) -> str:
    """Return a camera's path; its name may have anything but a slash."""
    return f"/cameras/{quote(name, safe='')}"


def read_region(path: Path) -> Any:
    """Return what a file of polygons has; whether they are such, the service says.

    Raises:
        CommandError: it is no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is no JSON: {error}", ExitCode.USAGE) from None


def _given(region: Path | None, seconds: float | None, description: str | None) -> dict[str, Any]:
    told = {
        "region": None if region is None else read_region(region),
        "seconds": seconds,
        "description": description,
    }
    return {name: value for name, value in told.items() if value is not None}


def _polygons(camera: dict[str, Any]) -> str | None:
    count = len(camera["region"] or ())
    return f"{count} polygon{'s' if count > 1 else ''}" if count else None


def _show(camera: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(camera)
        return
    region = camera["region"]
    print_fields(
        [
            ("camera", camera["name"]),
            ("stream", camera["hls"]),
            ("seconds", f"{camera['seconds']:g}"),
            ("region", None if region is None else json.dumps(region)),
            *((name, camera[name]) for name in _REST),
        ]
    )
