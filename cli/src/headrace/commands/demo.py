"""`demo`: both paths on real servers: a real recording, and a camera over a rendered road."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.client import Client, job_path
from headrace.commands.demo_camera import download, look_at_camera
from headrace.commands.jobs import print_accepted, send
from headrace.commands.stack import StackPrinter
from headrace.connection import Connection
from headrace.direct.upload import Errand
from headrace.failures import CommandError, ExitCode
from headrace.following import follow
from headrace.output import console, print_fields, print_heading, print_table
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_local import control
from headrace_local.errors import LocalStackError
from headrace_local.state import StackState

#: The sentence to be imitated and a speaker who imitates it; see examples/recordings/README.md.
TOKEN = "mary-rolled-the-barrel"  # noqa: S105 - a reference item's id
RECORDINGS = Path("examples/recordings")
REFERENCE, TEXTGRID, IMITATION = "mary.wav", "mary.TextGrid", "bobby.wav"


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Stop everything when the jobs are done.")
    ] = False,
    recordings: Annotated[
        Path, typer.Option(help="Where the example's recordings are.", file_okay=False)
    ] = RECORDINGS,
) -> None:
    """Start the stack, send a recording and a camera job through it, and show the results.

    With --once, stops everything at the end and exits 0 if both were completed, else 1.
    """
    if not (recordings / REFERENCE).is_file():
        raise CommandError(
            f"no recordings in {recordings}; run this in the checkout", ExitCode.USAGE
        )
    began = time.monotonic()
    with _stack() as state:
        print_heading("1  a token: the sentence to be imitated")
        connection = Connection(
            state.endpoints["ingest_url"], state.endpoints["results_url"], state.api_key or ""
        )
        with Client(connection) as client:
            _create_token(client, recordings)
            print_heading("2  a recording of it, on its way")
            job = _run_job(client, recordings / IMITATION)
            print_heading("3  the result")
            _show_result(client, job, state.directory / "demo")
            _print_time(job, began)
            camera_job = look_at_camera(client, state.directory / "demo")
            _print_time(camera_job, began)
        for each in (job, camera_job):
            if each["status"] != JobStatus.COMPLETED:
                raise CommandError(f"{each['job_id']} {each['status']}: {each['message']}")
        _print_urls(state, job)
        if not once:
            console.print("Running until Ctrl-C.", style="bold")
            _wait_for_signal()


@contextmanager
def _stack() -> Iterator[StackState]:
    """Run the stack for as long as the block lasts; one that ran before goes on afterwards."""
    before = control.status()
    ran_before = before is not None and before.is_running
    try:
        # The stack watches us: it ends even if we are killed.
        control.up_detached(parent=os.getpid(), on_change=StackPrinter(foreground=False))
    except LocalStackError as error:
        raise CommandError(str(error)) from None
    try:
        yield control.require_running()
    finally:
        if not ran_before:
            console.print("Stopping the stack; its data stays.", style="dim")
            control.down()


def _create_token(client: Client, recordings: Path) -> None:
    """Create the token with its TextGrid and reference pitch, or bring it up to date."""
    known = [token["id"] for token in client.ingest("GET", "/tokens")["tokens"]]
    if TOKEN not in known:
        client.ingest("POST", "/tokens", json={"id": TOKEN, "title": "Mary rolled the barrel."})
    client.put_reference(TOKEN, "textgrid", recordings / TEXTGRID)
    with tempfile.TemporaryDirectory() as folder:
        pitch = Path(folder) / "pitch.json"
        _extract_pitch(recordings / REFERENCE, pitch)
        token = client.put_reference(TOKEN, "pitch", pitch)
    print_fields((name, token[name]) for name in ("id", "title", "s3_textgrid_url", "s3_pitch_url"))


def _extract_pitch(recording: Path, target: Path) -> None:
    command = [sys.executable, "-m", "speech_analysis_server.reference", str(recording)]
    made = subprocess.run(  # noqa: S603 - our own command
        [*command, "--pitch-out", str(target)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise CommandError(f"no reference pitch: {made.stderr.strip()}")


def _run_job(client: Client, recording: Path) -> dict[str, Any]:
    answer = send(client, Errand(recording, TOKEN, Lane.NORMAL.value), quiet=False)
    print_accepted(answer)
    follow(client, answer["job_id"], as_json=False)
    job: dict[str, Any] = client.results("GET", job_path(answer["job_id"]))
    return job


def _show_result(client: Client, job: dict[str, Any], folder: Path) -> None:
    result = job["result"] or {}
    pitch, rate = result.get("pitch") or {}, result.get("speaking_rate") or {}
    print_fields(
        [
            ("duration", f"{result.get('duration_seconds')} s"),
            ("median pitch", f"{pitch.get('median_hz')} Hz"),
            ("pitch range", f"{pitch.get('min_hz')} to {pitch.get('max_hz')} Hz"),
            ("speaking rate", f"{rate.get('syllables_per_second')} syllables/s"),
        ]
    )
    if comparison := result.get("comparison"):
        print_fields(
            [
                ("score", f"{comparison['score']} of 100"),
                ("pitch distance", f"{comparison['distance_semitones']} semitones"),
                ("correlation", comparison["correlation"]),
            ]
        )
        print_table(
            ("WORD", "SCORE", "DISTANCE", "DURATION RATIO"),
            [
                (word["label"], word["score"], word["distance_semitones"], word["duration_ratio"])
                for word in comparison["intervals"]
            ],
        )
    for warning in result.get("warnings", []):
        console.print(f"warning: {warning['message']}", style="yellow")
    if "plot" in result.get("artifacts", {}):
        print_fields([("plot", download(client, job["job_id"], "plot", folder / "plot.png"))])
        print_fields([("in S3", result["artifacts"]["plot"])])


def _print_time(job: dict[str, Any], began: float) -> None:
    console.print()
    console.print(f"{job['status']} after {time.monotonic() - began:.1f} s", highlight=False)


def _print_urls(state: StackState, job: dict[str, Any]) -> None:
    ingest, results = state.endpoints["ingest_url"], state.endpoints["results_url"]
    print_fields(
        [
            ("upload API", f"{ingest}/docs"),
            ("jobs API", f"{results}/docs"),
            ("camera worker", f"{state.endpoints['preprocessor_url']}/docs"),
            ("this job", results + job_path(job["job_id"])),
        ]
    )
    console.print("In another terminal, after `. .venv/bin/activate`:", style="dim")
    for command in (
        *(f"upload {RECORDINGS / IMITATION} -t {TOKEN} -f", "cameras simulate --preprocess"),
        *("jobs", "worker status", "status"),
    ):
        console.print(f"  headrace {command}", highlight=False, soft_wrap=True)


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
