"""The command line: what it prints, and how it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from stack_user import RECORDINGS, User


def test_a_script_can_upload_and_wait(user: User) -> None:
    printed = user.run("upload", RECORDINGS / "bobby.wav", "-t", user.token(), "--follow", "--json")
    events = [json.loads(line) for line in printed.splitlines()]
    assert [e["sequence"] for e in events if "sequence" in e] == list(
        range(1, 1 + sum("sequence" in e for e in events))
    )
    assert events[-1]["status"] == "completed"
    watched = user.run("watch", events[-1]["job_id"])
    assert "completed" in watched


def test_the_same_command_again_makes_no_second_job(user: User) -> None:
    key, token = str(uuid4()), user.token()
    upload = ("upload", RECORDINGS / "bobby.wav", "-t", token, "--idempotency-key", key)
    assert user.run_json(*upload)[0]["job_id"] == user.run_json(*upload)[0]["job_id"]
    assert len(user.run_json("jobs", "--token", token)["jobs"]) == 1


def test_several_files_go_in_one_command(user: User) -> None:
    answers = user.run_json(
        *("upload", RECORDINGS / "bobby.wav", RECORDINGS / "mary.wav", "-t", user.token()),
        *("-p", "low"),
    )
    assert [answer["priority"] for answer in answers] == ["low", "low"]


def test_a_file_that_goes_straight_to_s3_is_analysed_like_others(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = user.token()
    printed = user.run("upload", "--direct", RECORDINGS / "bobby.wav", "-t", token, "--follow")
    assert "1 parts sent, 0 were there" in printed
    assert "completed" in printed
    answer = user.run("upload", RECORDINGS / "bobby.wav", "-t", token, "--abort", expect=2)
    assert "--abort goes with --direct" in answer


def test_one_refused_file_does_not_hide_the_others(user: User) -> None:
    token = user.token()
    files = (RECORDINGS / "bobby.wav", RECORDINGS / "LICENSE", RECORDINGS / "mary.wav")
    printed = user.run("upload", *files, "-t", token, expect=4)
    assert f"{files[1]}: " in printed
    listed = user.run_json("jobs", "--token", token)["jobs"]
    assert len(listed) == 2
    assert all(job["job_id"] in printed for job in listed)


def test_a_token_with_a_bad_reference_is_not_half_made(user: User) -> None:
    name = f"token-{uuid4()}"
    create = ("tokens", "create", name, "--textgrid")
    assert "not a Praat TextGrid" in user.run(*create, RECORDINGS / "LICENSE", expect=4)
    assert user.run_json(*create, RECORDINGS / "mary.TextGrid")["id"] == name


def test_tokens_come_and_go(user: User) -> None:
    name = f"token-{uuid4()}"
    created = user.run_json("tokens", "create", name, "--textgrid", RECORDINGS / "mary.TextGrid")
    assert created["s3_textgrid_url"].startswith("s3://")
    assert name in user.run("tokens", "list", "--limit", "200")
    user.run("tokens", "delete", name)
    assert "no token" in user.run("tokens", "show", name, expect=3)


def test_keys_come_and_go(user: User) -> None:
    created = user.run_json("keys", "create", "ci", "--scope", "jobs:read")
    listed = {key["id"]: key for key in user.run_json("keys", "list")}
    assert listed[created["id"]]["scopes"] == ["jobs:read"]
    assert created["key"] not in json.dumps(listed)
    header = {"authorization": f"Bearer {created['key']}"}
    assert user.results.get("/jobs", headers=header).status_code == 200
    assert user.ingest.post("/tokens", json={}, headers=header).status_code == 403
    user.run("keys", "revoke", created["id"])
    assert user.results.get("/jobs", headers=header).status_code == 401


def test_the_stack_is_shown_without_its_secrets(user: User) -> None:
    shown = user.run("status", "--json")
    assert json.loads(shown)["phase"] == "ready"
    assert user.state.api_key
    assert user.state.api_key not in shown
    assert user.state.env["AWS_SECRET_ACCESS_KEY"] not in shown
    assert "dispatcher" in user.run("status")
    assert "dispatcher.batch_sent" in user.run("logs", "dispatcher", "-n", "100000")


def test_one_process_is_stopped_and_started(user: User) -> None:
    user.run("stop", "analysis-server")
    assert user.stack.process("analysis-server").state == "stopped"
    user.run("status", expect=1)
    user.run("start", "analysis-server")
    user.run("restart", "analysis-server")
    user.run("status")
    assert "no process called nobody" in user.run("stop", "nobody", expect=1)


def test_the_settings_can_be_sourced(user: User) -> None:
    printed = user.run("env")
    assert user.run_json("env") == user.state.env
    script = printed + '\nprintf %s "$WEBHOOK_URL"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == user.state.env["WEBHOOK_URL"]


def test_the_database_is_up_to_date(user: User) -> None:
    assert user.run_json("db", "upgrade") == {"applied": []}
    assert user.run_json("db", "status") == {"pending": []}


def test_a_database_url_that_is_none_is_one_line_without_its_password() -> None:
    env = {**os.environ, "DATABASE_URL": "mysql://me:secret@host/x"}
    command = [sys.executable, "-m", "headrace", "db", "status"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("headrace: DATABASE_URL: ")
    assert (done.stderr.count("\n"), "secret" in done.stderr) == (1, False)


def test_queues_are_made_where_they_are_missing(user: User) -> None:
    prefix = f"t{uuid4().hex[:8]}-"
    made = user.run_json("sqs", "create-queues", "--prefix", prefix)
    assert user.run_json("sqs", "create-queues", "--prefix", prefix) == made
    assert made["SQS_QUEUE_URL"].endswith(f"{prefix}audio-analysis-queue")
    fifo = user.run_json("sqs", "create-queues", "--prefix", prefix, "--fifo", "--one-queue")
    assert fifo["SQS_QUEUE_URL_HIGH"] == fifo["SQS_QUEUE_URL"]
    assert fifo["SQS_QUEUE_URL"].endswith(".fifo")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["job", "nobody"], 3, "no job 'nobody'"),
        (["watch", "nobody"], 3, "no job 'nobody'"),
        (["cancel", "nobody"], 3, "no job 'nobody'"),
        (["upload", "no-such-file.wav", "-t", "x"], 2, "does not exist"),
        (["upload", __file__, "-t", "{token}"], 4, "415"),
        (["tokens", "create", "a b"], 4, "422"),
        (["tokens", "create", "x", "--pitch", "no-such-file"], 2, "no such file"),
        (["logs", "nobody"], 3, "no process called 'nobody'"),
        (["keys", "create", "x"], 2, "--scope"),
        (["keys", "revoke", "nobody"], 3, "no API key 'nobody'"),
        (["jobs", "--cursor", "x"], 4, "cursor"),
        (["preprocess", "--cctv", "c", "--hls", "ftp://camera/1"], 4, "422"),
        (["preprocess", "--cctv", "a/b", "--hls", "http://camera/1"], 2, "no slash"),
        (["preprocess", "--cctv", "c", "--hls", "http://camera/1", "--sec", "601"], 2, "--sec"),
        (["cameras", "simulate", "--video", "no-such-file"], 2, "no such file"),
        (["cameras", "simulate", "--size", "3x3"], 2, "did not come up"),
        (["worker", "concurrency", "0"], 2, "N"),
        (["worker", "status"], 5, "HEADRACE_PREPROCESSOR_URL"),
    ],
)
def test_failures_are_one_line_and_a_code(
    user: User, arguments: list[str], code: int, complaint: str
) -> None:
    given = [argument.replace("{token}", user.token()) for argument in arguments]
    printed = user.run(*given, expect=code)
    assert complaint in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("home", "variables", "complaint"),
    [
        ("none", {}, "headrace up"),
        (
            "none",
            {
                "HEADRACE_INGEST_URL": "http://127.0.0.1:1",
                "HEADRACE_RESULTS_URL": "http://127.0.0.1:1",
                "HEADRACE_API_KEY": "x",
            },
            "no answer from 127.0.0.1:1",
        ),
    ],
)
def test_a_stack_that_is_not_there_is_code_5(
    tmp_path: Path, home: str, variables: dict[str, str], complaint: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "jobs"],
        env={"PATH": os.environ["PATH"], "HEADRACE_HOME": str(tmp_path / home), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_tab_completion_offers_what_exists(user: User) -> None:
    job_id = user.upload(user.token())["job_id"]
    for line, expected in (("headrace job ", job_id), ("headrace logs disp", "dispatcher")):
        done = subprocess.run(
            [Path(sys.executable).with_name("headrace")],
            env=os.environ
            | {
                "HEADRACE_HOME": str(user.stack.directory),
                "_HEADRACE_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(line.split(" ")) - 1),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert expected in done.stdout.split()
