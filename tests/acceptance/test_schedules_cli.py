"""Schedules from the command line, on the whole stack."""

from uuid import uuid4

from stack_user import User

from headrace.failures import ExitCode
from headrace_local.waiting import wait_until


def test_a_recording_is_analysed_anew_because_somebody_runs_its_schedule(user: User) -> None:
    job_id = user.upload(user.token())["job_id"]
    wait_until(lambda: user.job(job_id)["status"], lambda seen: seen == "completed")
    name = f"yearly-{uuid4()}"
    told = user.run(
        *("schedules", "create", name, "--cron", "0 3 1 1 *", "--zone", "Asia/Seoul"),
        *("--target", "audio.reanalyse", "--param", f"job_id={job_id}"),
    )
    assert f"{name} is made: audio.reanalyse, cron 0 3 1 1 *, Asia/Seoul" in told
    assert told.count("-01-01 03:00:00+09:00") == 5
    firing = user.run_json("schedules", "run", name, "--wait")
    assert (firing["state"], firing["job_id"], firing["job_run"]) == ("succeeded", job_id, 2)
    user.run("schedules", "delete", name)
    user.run("schedules", "delete", "housekeeping.purge-jobs", expect=ExitCode.REFUSED)
