"""The commands on schedules, calendars and targets, against the API behind a real socket."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from schedule_bench import Bench, bench
from structlog.testing import capture_logs
from typer.testing import CliRunner

from headrace import completion
from headrace.failures import CommandError, ExitCode
from headrace.main import app
from headrace.schedule_options import moment_of, params_of, seconds_of
from headrace.schedule_output import firing_text
from headrace_local.waiting import wait_until

__all__ = ["bench"]

pytestmark = pytest.mark.stack

#: Its days are to come, whenever these tests run.
YEAR = datetime.now(UTC).year + 2


class Shell:
    """Runs `headrace`."""

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
        if isinstance(done.exception, CommandError):
            raise done.exception
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
        return done.output

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def fail(self, code: ExitCode, *arguments: str) -> str:
        """Run what is refused, and return the line that says so."""
        with pytest.raises(CommandError) as refused:
            self.run(*arguments)
        assert refused.value.code is code
        return str(refused.value)


@pytest.fixture
def shell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    server = uvicorn.Server(uvicorn.Config(bench.app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("HEADRACE_DISPATCHER_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HEADRACE_API_KEY", bench.admin)
    # The server's log would stand among what the commands print.
    with capture_logs():
        yield Shell()
        server.should_exit = True
        thread.join()


def test_a_schedule_from_its_making_to_its_removal(bench: Bench, shell: Shell) -> None:
    job_id = bench.job()
    shell.run("calendars", "create", "holidays", "-d", "12-25", "-d", "2026-12-28..2027-01-06")
    told = shell.run(
        *("schedules", "create", "nightly", "--cron", "0 3 * * *", "--zone", "Europe/Berlin"),
        *("--target", "audio.reanalyse", "--param", f"job_id={job_id}", "--calendar", "holidays"),
        *("--jitter", "30s", "--misfire", "skip", "--grace", "5m", "--overlap", "cancel"),
    )
    assert "nightly is made: audio.reanalyse, cron 0 3 * * *, Europe/Berlin" in told
    times = [line for line in told.splitlines() if " 03:00:00+0" in line]
    assert len(times) == 5
    made = shell.run_json("schedules", "show", "nightly")
    assert (made["misfire_grace_seconds"], made["jitter_seconds"]) == (300, 30)

    shown = shell.run("schedules", "show", "nightly")
    assert f"audio.reanalyse job_id={job_id}" in shown
    assert "skip, after 5m" in shown
    assert "cron 0 3 * * *" in shell.run("schedules", "list", "--prefix", "night")
    once = ("--at", f"{YEAR}-02-01T08:00")
    shell.run("schedules", "change", "nightly", *once, "--clear", "calendar")
    changed = shell.run_json("schedules", "show", "nightly")
    # Eight on the schedule's own clock.
    assert changed["trigger"]["at"] == f"{YEAR}-02-01T07:00:00Z"
    assert (changed["calendar"], changed["time_zone"]) == (None, "Europe/Berlin")
    assert f"at {YEAR}-02-01" in shell.run("schedules", "show", "nightly")

    assert "nightly is paused" in shell.run("schedules", "pause", "nightly", "--reason", "moving")
    assert "paused: moving" in shell.run("schedules", "show", "nightly")
    assert "nightly goes on" in shell.run("schedules", "resume", "nightly")
    assert "is pending" in shell.run("schedules", "run", "nightly")
    assert "pending" in shell.run("schedules", "history", "nightly", "--state", "pending")
    assert len(shell.run_json("schedules", "history", "nightly")["firings"]) == 1
    assert "nightly" in shell.run("schedules", "history")
    assert "nightly is removed" in shell.run("schedules", "delete", "nightly")
    assert shell.fail(ExitCode.NOT_FOUND, "schedules", "show", "nightly") == (
        "no schedule 'nightly' (404)"
    )


def test_run_waits_for_the_end(bench: Bench, shell: Shell) -> None:
    bench.create("a", overlap="allow")
    with ThreadPoolExecutor() as threads:
        ended = threads.submit(lambda: bench.finish(wait_until(lambda: bench.firings("a"))[0].id))
        assert "succeeded" in shell.run("schedules", "run", "a", "--wait")
        ended.result()
    bench.patch("/schedules/a", overlap="skip")
    shell.run("schedules", "run", "a")
    skipped = CliRunner().invoke(app, ["schedules", "run", "a"])
    assert skipped.exit_code == ExitCode.FAILED
    assert "is skipped: overlap" in skipped.output


def test_a_result_tells_what_was_done_only() -> None:
    done = {"looked_at": 40, "queued": 0, "freed_bytes": 0.0, "complete": False, "failed": 2}
    told = {"reason": None, "missed": 3, "result": done}
    assert firing_text(told) == (
        "for 3 earlier ones too; looked_at: 40, complete: False, failed: 2"
    )
    assert firing_text({"reason": None, "missed": 0, "result": {"queued": 0}}) == ""


def test_every_kind_of_trigger(bench: Bench, shell: Shell) -> None:
    bench.camera("gate")
    camera = ("--target", "camera.preprocess", "--param", "camera=gate", "-p", "seconds=5.5")
    every = shell.run_json(
        *("schedules", "create", "every", "--every", "1h30m", "--start", f"{YEAR}-01-01 06:00"),
        *("--zone", "Asia/Seoul", "--end", f"{YEAR}-06-01T00:00Z", *camera),
    )
    assert (every["trigger"], every["params"]) == (
        {"type": "interval", "seconds": 5_400},
        {"camera": "gate", "seconds": 5.5},
    )
    assert every["next_firings"][0]["local"] == f"{YEAR}-01-01T06:00:00+09:00"
    later = shell.run_json("schedules", "create", "later", "--in", "2h", *camera)
    assert later["trigger"]["seconds"] == 7_200
    again = ("schedules", "create", "every", "--every", "2h", *camera)
    assert "schedule 'every' (409)" in shell.fail(ExitCode.REFUSED, *again)
    assert "every is replaced" in shell.run(*again, "--replace", "--misfire", "all", "--limit", "7")
    assert "all, 7 at most, after 1m" in shell.run("schedules", "show", "every")
    assert "paused" in shell.run("schedules", "create", "b", "--every", "1d", "--paused", *camera)


def test_a_preview_of_what_is_there_and_of_what_is_not(bench: Bench, shell: Shell) -> None:
    bench.create("a", trigger={"type": "cron", "expression": "@hourly"})
    assert len(shell.run_json("schedules", "preview", "a", "-n", "30")["next_firings"]) == 30
    told = shell.run(
        *("schedules", "preview", "--cron", "30 2 * * SUN", "--zone", "Europe/Berlin"),
        *("--after", "2027-03-28T00:00", "--count", "1"),
    )
    assert "Sun 2027-03-28 03:00:00+02:00" in told
    nothing = ("schedules", "preview", "--every", "1h", "--end", "2020-01-01T00:00Z")
    assert "It fires nothing." in shell.run(*nothing)
    assert "No process has led yet." in shell.run("schedules", "status")


def test_calendars_and_targets(bench: Bench, shell: Shell) -> None:
    shell.run("calendars", "create", "holidays", "-d", "12-25", "--description", "Off")
    changed = shell.run_json("calendars", "change", "holidays", "--add", "2026-12-28..2027-01-06")
    assert changed["exceptions"] == ["12-25", {"from": "2026-12-28", "to": "2027-01-06"}]
    assert "12-25, 2026-12-28..2027-01-06" in shell.run("calendars", "show", "holidays")
    assert "holidays" in shell.run("calendars", "list")
    assert "is removed" in shell.run("calendars", "delete", "holidays")
    assert "camera [seconds]" in shell.run("targets", "list")
    bench.create("a")
    assert "4 at once; 0 run, 0 wait" in shell.run("targets", "limit", "camera:gate", "4")
    assert "camera:gate" in shell.run("targets", "limits")
    assert "no limit" in shell.run("targets", "unlimit", "camera:gate")


def test_tab_completion_offers_what_there_is(bench: Bench, shell: Shell) -> None:
    bench.create("nightly")
    shell.run("calendars", "create", "holidays")
    assert completion.schedule_names("ni") == completion.schedule_names("") == ["nightly"]
    assert completion.calendar_names("h") == ["holidays"]
    assert completion.target_names("camera") == ["camera.preprocess"]


def test_what_is_wrong_is_one_line(bench: Bench, shell: Shell) -> None:
    target = ("--target", "camera.preprocess", "--param", "camera=gate")
    create = ("schedules", "create", "a")
    bad_cron = shell.fail(ExitCode.REFUSED, *create, "--cron", "61 * * * *", *target)
    assert bad_cron.startswith("trigger.expression: ")
    no_camera = shell.fail(ExitCode.REFUSED, *create, "--every", "1m", *target)
    assert no_camera == "params.camera: no camera 'gate' is registered (422)"
    for wrong, told in (
        ((*create, *target), "say when"),
        ((*create, "--every", "1m"), "say what to fire"),
        ((*create, "--every", "1m", "--in", "1m", *target), "one of --every and --in"),
        ((*create, "--every", "soon", *target), "--every takes a duration"),
        ((*create, "--at", "tomorrow", *target), "--at takes an ISO time"),
        ((*create, "--every", "1m", "--param", "camera", "-t", "a"), "NAME=VALUE"),
        ((*create, "--every", "1m", "--params", "[]", "-t", "a"), "JSON object"),
        ((*create, "--at", "2027-01-01", "--zone", "Mars", *target), "no time zone 'Mars'"),
        (("schedules", "change", "a"), "say what to change"),
        (("schedules", "change", "a", "--clear", "name"), "--clear takes"),
        (("schedules", "preview"), "name a schedule, or say when"),
        (("calendars", "change", "a"), "say what to change"),
    ):
        assert told in shell.fail(ExitCode.USAGE, *wrong)


def test_durations_and_times() -> None:
    assert [seconds_of("--every", text) for text in ("90s", "1h30m", "1w2d", "0.5s")] == [
        90,
        5_400,
        9 * 86_400,
        0.5,
    ]
    assert moment_of("--at", "2026-12-01T08:00+01:00", None) == "2026-12-01T08:00:00+01:00"
    assert moment_of("--at", "2026-07-01", "Europe/Berlin") == "2026-07-01T00:00:00+02:00"
    assert datetime.fromisoformat(moment_of("--at", "2026-07-01 12:00", None)).tzinfo is not None
    assert params_of(["a=b=c"], '{"n": 1}') == {"n": 1, "a": "b=c"}
    assert params_of(None, None) is None
