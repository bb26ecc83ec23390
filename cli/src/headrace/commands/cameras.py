"""`preprocess` and `cameras`: have a camera looked at, register one, and play one."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headrace import completion
from headrace.camera_output import print_camera_result
from headrace.client import Client, job_path
from headrace.commands import registry
from headrace.failures import CommandError, ExitCode
from headrace.following import follow
from headrace.output import JsonOption, console, print_fields, print_json, print_json_line
from headrace_common.contracts.cctv import MAX_CLIP_SECONDS
from headrace_common.contracts.jobs import JobStatus

app = typer.Typer(help="Cameras: streams that can be looked at.", no_args_is_help=True)
app.command("add")(registry.add)
app.command("list")(registry.list_cameras)
app.command("show")(registry.show)
app.command("change")(registry.change)
app.command("remove")(registry.remove)

#: A simulated camera stops within moments.
_STOP_SECONDS: Final = 10.0
#: Of a clip, of a camera that is not registered.
_SECONDS: Final = 20.0

SecondsOption = Annotated[
    float, typer.Option("--sec", min=0.1, max=MAX_CLIP_SECONDS, help="Seconds to read.")
]


def preprocess(
    camera: Annotated[
        str | None,
        typer.Option(help="Name of a registered one.", autocompletion=completion.camera_names),
    ] = None,
    cctv: Annotated[str | None, typer.Option(help="Id of one that is not.")] = None,
    hls: Annotated[str | None, typer.Option(help="URL of its HLS playlist.")] = None,
    sec: Annotated[
        float | None,
        typer.Option(
            "--sec",
            min=0.1,
            max=MAX_CLIP_SECONDS,
            help=f"Seconds to read: {_SECONDS:g}, or as the registered camera has it.",
        ),
    ] = None,
    region: registry.RegionOption = None,
    job_id: Annotated[
        str | None, typer.Option("--job-id", help="Id of the job; made if left out.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sent along: repeating the command repeats no job.")
    ] = None,
    *,
    follow_job: Annotated[
        bool, typer.Option("--follow", "-f", help="Watch the job until its end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a camera looked at: the road without its traffic, and the damage on it.

    Give --camera, or --cctv and --hls. With --follow, shows the result and exits 1 unless the job
    was completed.
    """
    name = _named(camera, cctv, hls)
    body: dict[str, Any] = {
        "hls": hls,
        "sec": _SECONDS if sec is None and hls is not None else sec,
        "region": None if region is None else registry.read_region(region),
        "job_id": job_id,
    }
    with Client() as client:
        answer = client.preprocess(name, _set_only(body), idempotency_key=idempotency_key)
        if not as_json:
            _print_accepted(answer)
        elif not follow_job:
            print_json(answer)
        if follow_job and not _followed(client, answer["job_id"], as_json=as_json):
            raise typer.Exit(ExitCode.FAILED)


@app.command("simulate")
def simulate(
    variant: Annotated[
        str | None, typer.Option(help="Kind of traffic, or of camera: light, heavy, jam ...")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Show this file, no rendered road.", dir_okay=False)
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the picture.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of the clip, which is looped.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--cameras", help="How many, each at a road of its own.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Any free one.")] = None,
    sec: SecondsOption = 20,
    *,
    preprocess_it: Annotated[
        bool, typer.Option("--preprocess", help="Have them looked at, show the results, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve live HLS streams of a road, until Ctrl-C.

    Needs the gpu-preprocessor beside it, which renders the road. With --preprocess, exits 1 unless
    every job was completed.
    """
    if video is not None and not video.is_file():
        raise CommandError(f"no such file: {video}", ExitCode.USAGE)
    options = {
        "--variant": variant,
        "--video": video,
        "--size": size,
        "--seconds": seconds,
        "--cameras": count,
        "--port": port,
    }
    given = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with simulation(given) as (process, told):
        cameras: list[dict[str, str]] = told["cameras"]
        if as_json:
            print_json_line(told)
        else:
            _print_cameras(cameras)
        if preprocess_it:
            _preprocess_all(cameras, sec, as_json=as_json)
            return
        if not as_json:
            _print_command(cameras[0], sec)
        with suppress(KeyboardInterrupt):
            raise CommandError(f"the simulated cameras ended with {process.wait()}")


def ask(client: Client, cctv: str, hls: str, sec: float) -> dict[str, Any]:
    """Put a job on a camera that is not registered, and return what ingest-api answers."""
    return client.preprocess(cctv, {"hls": hls, "sec": sec})


def _named(camera: str | None, cctv: str | None, hls: str | None) -> str:
    """Return the name of the camera that is meant.

    Raises:
        CommandError: none is, or two are.
    """
    said = [camera is not None, cctv is not None, hls is not None]
    name = camera if cctv is None else cctv
    if name is None or said not in ([True, False, False], [False, True, True]):
        raise CommandError("give either --camera, or --cctv and --hls", ExitCode.USAGE)
    if "/" in name:
        raise CommandError("the id of a camera has no slash", ExitCode.USAGE)
    return name


def _set_only(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _print_accepted(answer: dict[str, Any]) -> None:
    console.print(
        f"{answer['message']}: job [bold]{answer['job_id']}[/] {answer['status']}", highlight=False
    )


def _followed(client: Client, job_id: str, *, as_json: bool) -> bool:
    """Follow a job, show what it led to, and tell whether it was completed."""
    status = follow(client, job_id, as_json=as_json)
    job = client.results("GET", job_path(job_id))
    if status is not JobStatus.COMPLETED:
        if job["error"] and not as_json:
            console.print(f"{job['error']['code']}: {job['error']['message']}", highlight=False)
        return False
    artifacts = client.results("GET", f"{job_path(job_id)}/artifacts")["artifacts"]
    if as_json:
        told = {"job_id": job_id, "result": job["result"], "artifacts": artifacts}
        print_json_line({"event": "result", **told})
    else:
        print_camera_result(job["result"], artifacts)
    return True


def _preprocess_all(cameras: list[dict[str, str]], sec: float, *, as_json: bool) -> None:
    """Have every camera looked at, all at a time, and show one result after the other."""
    with Client() as client:
        answers = [ask(client, each["id"], each["url"], sec) for each in cameras]
        failed = False
        for answer in answers:
            if not as_json:
                _print_accepted(answer)
            failed |= not _followed(client, answer["job_id"], as_json=as_json)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def _print_cameras(cameras: list[dict[str, str]]) -> None:
    for camera in cameras:
        print_fields(("camera" if name == "id" else name, text) for name, text in camera.items())


def _print_command(camera: dict[str, str], sec: float) -> None:
    console.print("Serving until Ctrl-C. To have it looked at:", style="dim")
    command = f"headrace preprocess --cctv {camera['id']} --hls {camera['url']} --sec {sec:g} -f"
    console.print(f"  {command}", highlight=False, soft_wrap=True)


@contextmanager
def simulation(options: list[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run simulated cameras, and yield them with what they say of themselves once they serve.

    Raises:
        CommandError: they do not come up; why, they have printed themselves.
    """
    command = [sys.executable, "-m", "headrace_gpu_preprocessor.simulate", "serve", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        assert process.stdout is not None  # noqa: S101 - asked for
        line = process.stdout.readline()
        if not line:
            code = ExitCode.USAGE if process.wait() == ExitCode.USAGE else ExitCode.FAILED
            raise CommandError("the simulated cameras did not come up", code)
        yield process, json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
