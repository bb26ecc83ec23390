"""`preprocess` and `cameras`: have a camera looked at, and play one."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headrace.camera_output import print_camera_result
from headrace.client import Client
from headrace.failures import CommandError, ExitCode
from headrace.following import follow
from headrace.output import JsonOption, console, print_fields, print_json, print_json_line
from headrace_common.contracts.cctv import MAX_CLIP_SECONDS
from headrace_common.contracts.jobs import JobStatus

app = typer.Typer(help="Cameras: streams that can be looked at.", no_args_is_help=True)

#: A simulated camera stops within moments.
_STOP_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5

SecondsOption = Annotated[
    float, typer.Option("--sec", min=0.1, max=MAX_CLIP_SECONDS, help="Seconds to read.")
]


def preprocess(
    cctv: Annotated[str, typer.Option(help="Id of the camera.")],
    hls: Annotated[str, typer.Option(help="URL of its HLS playlist.")],
    sec: SecondsOption = 20,
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

    With --follow, shows the result and exits 1 unless the job was completed.
    """
    with Client() as client:
        answer = _ask(client, cctv, hls, sec, job_id=job_id, key=idempotency_key)
        if not as_json:
            _print_accepted(answer)
        elif not follow_job:
            print_json(answer)
        if follow_job:
            _follow(client, answer["job_id"], as_json=as_json)


@app.command("simulate")
def simulate(
    variant: Annotated[
        str | None, typer.Option(help="Which scene: light, heavy, parked, jam, shake ...")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Serve this file, no rendered road.", dir_okay=False),
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the picture.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Any free one.")] = None,
    sec: SecondsOption = 20,
    *,
    preprocess_it: Annotated[
        bool, typer.Option("--preprocess", help="Have it looked at, show the result, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a live HLS stream of a road, until Ctrl-C.

    Needs the gpu-preprocessor beside it, which renders the road. With --preprocess, exits 1 unless
    the job was completed.
    """
    if video is not None and not video.is_file():
        raise CommandError(f"no such file: {video}", ExitCode.USAGE)
    options = {"--variant": variant, "--video": video, "--size": size, "--port": port}
    given = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    stop = _stop_at_signals()
    with _camera(given) as (camera, told):
        url = _url_of(told)
        name = str(told.get("cctv_id") or variant or (video.stem if video else "simulated"))
        if as_json:
            print_json_line(told)
        else:
            print_fields([("stream", url)])
        if preprocess_it:
            _preprocess_once(name, url, sec, as_json=as_json)
            return
        if not as_json:
            console.print("Serving until Ctrl-C. To have it looked at:", style="dim")
            command = f"  headrace preprocess --cctv {name} --hls {url} --sec {sec:g} --follow"
            console.print(command, highlight=False, soft_wrap=True)
        while not stop.wait(_LOOK_SECONDS):
            if camera.poll() is not None:
                raise CommandError(f"the simulated camera ended with {camera.returncode}")


def _ask(
    client: Client, cctv: str, hls: str, sec: float, *, job_id: str | None, key: str | None
) -> dict[str, Any]:
    body = {"hls": hls, "sec": sec, "job_id": job_id}
    answer: dict[str, Any] = client.preprocess(cctv, body, idempotency_key=key)
    return answer


def _print_accepted(answer: dict[str, Any]) -> None:
    console.print(
        f"{answer['message']}: job [bold]{answer['job_id']}[/] {answer['status']}", highlight=False
    )


def _follow(client: Client, job_id: str, *, as_json: bool) -> None:
    """Follow a job, show what it led to, and exit 1 unless it was completed."""
    status = follow(client, job_id, as_json=as_json)
    job = client.results("GET", f"/jobs/{job_id}")
    if status is not JobStatus.COMPLETED:
        if job["error"] and not as_json:
            console.print(f"{job['error']['code']}: {job['error']['message']}", highlight=False)
        raise typer.Exit(ExitCode.FAILED)
    artifacts = client.results("GET", f"/jobs/{job_id}/artifacts")["artifacts"]
    if as_json:
        print_json_line({"event": "result", "result": job["result"], "artifacts": artifacts})
    else:
        print_camera_result(job["result"], artifacts)


def _preprocess_once(name: str, url: str, sec: float, *, as_json: bool) -> None:
    with Client() as client:
        answer = _ask(client, name, url, sec, job_id=None, key=None)
        if not as_json:
            _print_accepted(answer)
        _follow(client, answer["job_id"], as_json=as_json)


@contextmanager
def _camera(options: list[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a simulated camera, and yield it with what it says of itself once it serves.

    Raises:
        CommandError: it does not come up; why, it has printed itself.
    """
    command = [sys.executable, "-m", "headrace_gpu_preprocessor.simulate", "serve", *options]
    camera = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        assert camera.stdout is not None  # noqa: S101 - asked for
        line = camera.stdout.readline()
        try:
            told = json.loads(line)
        except ValueError:
            raise CommandError("the simulated camera did not come up") from None
        yield camera, told
    finally:
        camera.terminate()
        try:
            camera.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            camera.kill()
            camera.wait()
        if camera.stdout is not None:
            camera.stdout.close()


def _url_of(told: dict[str, Any]) -> str:
    url = told.get("url")
    if not isinstance(url, str):
        raise CommandError(f"the simulated camera told no URL: {told}")
    return url


def _stop_at_signals() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set; a second one ends at once."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return stop
