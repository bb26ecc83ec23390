"""The demo's second half: a camera over a road, what is on the road, and whether to trust that."""

from pathlib import Path
from typing import Any, Final

import httpx

from headrace.camera_output import print_camera_result
from headrace.client import Client, job_path
from headrace.commands.cameras import ask, simulation
from headrace.commands.verify import verify
from headrace.following import follow
from headrace.output import print_fields, print_heading
from headrace_common.contracts.cctv import ArtifactName
from headrace_common.contracts.jobs import JobStatus

#: Small and slow, so that the road is rendered within seconds.
_OPTIONS: Final = ["--size", "640x360", "--rate", "10", "--seconds", "12"]
_CLIP_SECONDS: Final = 8


def look_at_camera(client: Client, folder: Path) -> dict[str, Any]:
    """Serve a camera, have it looked at, and show what was found; return the job."""
    print_heading("4  a camera over a road, live")
    folder.mkdir(parents=True, exist_ok=True)
    with simulation([*_OPTIONS, "--cache", str(folder / "cameras")]) as (_, told):
        camera = told["cameras"][0]
        print_fields([("camera", camera["id"]), ("stream", camera["url"])])
        answer = ask(client, camera["id"], camera["url"], _CLIP_SECONDS)
        follow(client, answer["job_id"], as_json=False)
    job: dict[str, Any] = client.results("GET", job_path(answer["job_id"]))
    if job["status"] == JobStatus.COMPLETED:
        print_heading("5  the road without its traffic, and the damage on it")
        _show(client, job, folder / "camera")
    return job


def _show(client: Client, job: dict[str, Any], folder: Path) -> None:
    print_camera_result(job["result"], [])
    files = {name: download(client, job["job_id"], name, folder / name) for name in ArtifactName}
    print_fields(
        (name, files[name]) for name in (ArtifactName.BACKGROUND, ArtifactName.DAMAGE_RESULT)
    )
    verify(str(folder), None, as_json=False)


def download(client: Client, job_id: str, name: str, target: Path) -> Path:
    """Fetch an artefact through the link that the results service redirects to."""
    connection = client.connection
    answer = httpx.get(
        f"{connection.results_url}{job_path(job_id)}/artifacts/{name}",
        headers={"authorization": f"Bearer {connection.api_key}"},
        follow_redirects=True,
        timeout=60,
    )
    answer.raise_for_status()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(answer.content)
    return target
