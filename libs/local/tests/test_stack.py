"""The life of a whole stack: start, stop, kills of everything, neighbours, failures."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import psycopg
import pytest
from local_harness import HTTP_SERVICE, StartStack

from headrace_local import control
from headrace_local.clients import local_sqs_client
from headrace_local.errors import LocalStackError, NoStackError, StartFailedError
from headrace_local.process import marked_processes
from headrace_local.pytest_plugin import LocalStack
from headrace_local.servers.seaweedfs import SOCKETS
from headrace_local.services import Service, ServiceSpec
from headrace_local.state import Phase, ProcessState, StackState, find_stack
from headrace_local.waiting import wait_until

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.stack


def _pids(state: StackState) -> set[int]:
    return {record.pid for record in state.processes if record.pid is not None}


def _supervisor(state: StackState) -> psutil.Process:
    assert state.supervisor is not None
    process = state.supervisor.find()
    assert process is not None
    return process


def test_a_service_runs_on_the_servers_and_its_url_is_known(
    directory: Path, start_stack: StartStack
) -> None:
    state = start_stack(servers=["valkey"], services=[HTTP_SERVICE]).state

    assert state.phase is Phase.READY
    assert httpx.get(state.endpoints["files_url"], timeout=30).status_code == 200
    service = state.process("files")
    assert service is not None
    assert service.identity is not None
    environment = psutil.Process(service.identity.pid).environ()
    assert environment["PORT"] == str(service.port)
    assert environment["REDIS_URL"] == state.env["REDIS_URL"]
    assert find_stack(directory.parent / "below" / "it") == control.status(directory)


def test_starting_again_reports_the_running_stack(start_stack: StartStack) -> None:
    first = start_stack(servers=["valkey"], services=False)
    second = start_stack(servers=["valkey"], services=False)

    assert not first.already_running
    assert second.already_running
    assert second.state.supervisor == first.state.supervisor
    assert _pids(second.state) == _pids(first.state)


def test_down_stops_everything_and_may_be_repeated(
    directory: Path, start_stack: StartStack
) -> None:
    state = start_stack(servers=["valkey", "s3"], services=[HTTP_SERVICE]).state
    pids, grpc_port = _pids(state), state.ports["s3"] + 10_000

    assert control.down(directory)
    assert not control.down(directory)

    assert len(pids) == 3
    assert list(SOCKETS.glob(f"seaweedfs-*-{grpc_port}.sock")) == []
    assert not any(psutil.pid_exists(pid) for pid in pids)
    after = control.status(directory)
    assert after is not None
    assert after.phase is Phase.STOPPED
    assert {record.state for record in after.processes} == {ProcessState.STOPPED}


def test_down_without_a_stack_does_nothing(directory: Path) -> None:
    assert not control.down(directory)
    assert not directory.exists()


def test_ports_and_credentials_stay_across_starts(directory: Path, start_stack: StartStack) -> None:
    first = start_stack(services=False).state
    control.down(directory)
    second = start_stack(services=False).state

    assert second.env == first.env
    assert second.api_key == first.api_key
    assert second.api_key is not None


def test_secrets_are_readable_by_the_owner_only(directory: Path, start_stack: StartStack) -> None:
    start_stack(services=False)
    files = [path for path in directory.rglob("*") if path.is_file()]
    top = [path for path in files if path.parent in {directory, directory / "logs"}]

    assert {path.name for path in top} >= {"stack.json", "credentials.json", "valkey.log"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in top} == {0o600}
    for data in (directory / "data").iterdir():
        assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_no_secret_is_on_a_command_line(start_stack: StartStack) -> None:
    state = start_stack(services=False).state
    secrets = [state.env["REDIS_PASSWORD"], state.env["AWS_SECRET_ACCESS_KEY"], state.api_key]
    password = state.env["DATABASE_URL"].split(":")[2].split("@")[0]

    for process in marked_processes(state.directory):
        words = " ".join(process.cmdline())
        assert not [secret for secret in (*secrets, password) if secret and secret in words]


def test_up_after_a_killed_supervisor_ends_what_is_left_and_keeps_the_data(
    directory: Path, start_stack: StartStack
) -> None:
    before = start_stack(servers=["valkey", "postgres"], services=[HTTP_SERVICE]).state
    with psycopg.connect(before.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    supervisor = _supervisor(before)
    supervisor.kill()
    supervisor.wait(timeout=60)
    assert all(psutil.pid_exists(pid) for pid in _pids(before))

    after = start_stack(servers=["valkey", "postgres"], services=[HTTP_SERVICE])

    assert not after.already_running
    assert after.state.ports == before.ports
    assert not _pids(before) & _pids(after.state)
    assert not any(psutil.pid_exists(pid) for pid in _pids(before))
    with psycopg.connect(after.state.env["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_down_after_a_killed_supervisor_ends_what_is_left(
    directory: Path, start_stack: StartStack
) -> None:
    state = start_stack(services=[HTTP_SERVICE]).state
    supervisor = _supervisor(state)
    supervisor.kill()
    supervisor.wait(timeout=60)
    dead = control.status(directory)
    assert dead is not None
    assert dead.phase is Phase.STOPPED
    assert len(marked_processes(directory)) >= 5

    assert control.down(directory)

    assert marked_processes(directory) == []
    grpc_ports = [state.ports[name] + 10_000 for name in state.ports]
    assert not [port for port in grpc_ports if [*SOCKETS.glob(f"seaweedfs-*-{port}.sock")]]


def test_what_was_started_but_never_recorded_is_ended_too(
    directory: Path, start_stack: StartStack
) -> None:
    state = start_stack(servers=["valkey"], services=False).state
    supervisor = _supervisor(state)
    supervisor.kill()
    supervisor.wait(timeout=60)
    (directory / "stack.json").unlink()

    assert control.down(directory)

    assert not any(psutil.pid_exists(pid) for pid in _pids(state))


def test_a_recorded_pid_that_belongs_to_another_process_is_left_alone(
    directory: Path, start_stack: StartStack
) -> None:
    state = start_stack(servers=["valkey"], services=False).state
    control.down(directory)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        record = state.processes[0]
        assert record.identity is not None
        reused = record.identity.model_copy(update={"pid": stranger.pid, "created": 1.0})
        stale = record.model_copy(update={"identity": reused, "state": ProcessState.READY})
        state.model_copy(update={"processes": [stale]}).save(directory / "stack.json")

        control.down(directory)

        assert stranger.poll() is None
        stranger.communicate(b"\n", timeout=60)


def test_two_stacks_run_side_by_side(tmp_path: Path, start_stack: StartStack) -> None:
    one = start_stack(tmp_path / "one" / ".headrace", services=False).state
    two = start_stack(tmp_path / "two" / ".headrace", services=False).state

    assert not set(one.ports.values()) & set(two.ports.values())
    assert one.env["REDIS_PASSWORD"] != two.env["REDIS_PASSWORD"]
    for state in (one, two):
        current = control.status(state.directory)
        assert current is not None
        assert {record.state for record in current.processes} == {ProcessState.READY}


def test_a_port_that_was_taken_meanwhile_is_avoided(
    directory: Path, start_stack: StartStack
) -> None:
    before = start_stack(services=False).state
    _send(before, "kept")
    control.down(directory)
    names = ("valkey", "postgres", "s3", "s3-master", "sqs")
    takers = [socket.create_server(("127.0.0.1", before.ports[name])) for name in names]
    try:
        after = start_stack(services=False).state
    finally:
        for taker in takers:
            taker.close()

    assert not {after.ports[name] for name in names} & {before.ports[name] for name in names}
    assert {record.state for record in after.processes} == {ProcessState.READY}
    queue = after.env["SQS_QUEUE_URL"]
    assert f":{after.ports['sqs']}/" in queue
    client = _sqs(after)
    assert client.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "kept"


def _sqs(state: StackState) -> "SQSClient":
    return local_sqs_client(
        state.env["SQS_ENDPOINT_URL"],
        aws_access_key_id=state.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=state.env["AWS_SECRET_ACCESS_KEY"],
    )


def _send(state: StackState, body: str) -> None:
    _sqs(state).send_message(QueueUrl=state.env["SQS_QUEUE_URL"], MessageBody=body)


def _saved_queues(directory: Path) -> str:
    path = directory / "data" / "sqs" / "sqs.json"
    return path.read_text() if path.exists() else ""


def test_sqs_messages_outlive_a_kill(directory: Path, start_stack: StartStack) -> None:
    state = start_stack(servers=["sqs"], services=False).state
    _send(state, "kept for certain")
    wait_until(lambda: "kept for certain" in _saved_queues(directory), seconds=20)

    stack = LocalStack(directory)
    stack.kill("sqs")
    stack.wait_ready("sqs")

    client = _sqs(state)
    queue = state.env["SQS_QUEUE_URL"]
    assert client.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "kept for certain"
    attributes = client.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])
    assert "audio-analysis-queue-dlq" in attributes["Attributes"]["RedrivePolicy"]


def test_a_service_that_crashes_is_reported_with_its_last_words(
    directory: Path, start_stack: StartStack
) -> None:
    crash = "import sys; print('the reason in its log'); sys.exit(3)"
    broken = ServiceSpec(name="broken", command=(sys.executable, "-c", crash))

    with pytest.raises(StartFailedError, match=r"(?s)status 3.*the reason in its log"):
        start_stack(servers=["valkey"], services=[broken])

    state = control.status(directory)
    assert state is not None
    assert state.phase is Phase.FAILED
    record = state.process("broken")
    assert record is not None
    assert record.state is ProcessState.FAILED
    assert record.restarts == 5
    assert record.error is not None
    assert "the reason in its log" in record.error


def test_credentials_that_cannot_be_read_stop_the_start(
    directory: Path, start_stack: StartStack
) -> None:
    start_stack(servers=["valkey"], services=False)
    control.down(directory)
    (directory / "credentials.json").write_text("{")

    with pytest.raises(StartFailedError, match="cannot be read as credentials"):
        start_stack(servers=["valkey"], services=False)


def test_a_command_that_does_not_exist_is_reported(start_stack: StartStack) -> None:
    missing = ServiceSpec(name="missing", command=("/nonexistent/program",))

    with pytest.raises(StartFailedError, match="No such file"):
        start_stack(servers=["valkey"], services=[missing])


def test_the_stack_ends_with_its_parent(directory: Path) -> None:
    script = (
        "import os, sys, pathlib; from headrace_local import control;"
        "control.up_detached(pathlib.Path(sys.argv[1]), services=False, servers=['valkey'],"
        " parent=os.getpid()); print('up', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        state = control.status(directory)
        assert state is not None
        parent.kill()

    supervisor = state.supervisor
    assert supervisor is not None
    wait_until(lambda: not supervisor.is_alive())
    assert marked_processes(directory) == []


def test_the_foreground_stack_stops_on_sigint(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "headrace_local", "--directory", directory, "--servers", "valkey"],
        stdout=subprocess.DEVNULL,
    ) as foreground:
        wait_until(lambda: _phase(directory) is Phase.READY)
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(timeout=60) == 0

    assert _phase(directory) is Phase.STOPPED
    assert marked_processes(directory) == []


def _phase(directory: Path) -> Phase | None:
    state = control.status(directory)
    return state.phase if state else None


def test_a_child_that_ignores_sigterm_is_killed_with_its_children(
    directory: Path, start_stack: StartStack
) -> None:
    script = (
        "import http.server, os, signal, subprocess, sys;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ['PORT']),"
        " bind='127.0.0.1')"
    )
    stubborn = ServiceSpec(name="stubborn", command=(sys.executable, "-c", script), health_path="/")
    state = start_stack(servers=[], services=[stubborn]).state
    assert len(marked_processes(directory)) == 2

    supervisor = _supervisor(state)
    supervisor.terminate()
    wait_until(lambda: _phase(directory) is Phase.STOPPING)
    supervisor.terminate()  # a second one ends all grace

    wait_until(lambda: not supervisor.is_running(), seconds=Service.stop_grace / 2)
    assert marked_processes(directory) == []


def test_logs_are_read_followed_and_kept_from_the_start_before(
    directory: Path, start_stack: StartStack
) -> None:
    start_stack(servers=["valkey"], services=False)

    lines = list(control.logs(directory, "valkey", lines=200))
    followed = control.logs(directory, "valkey", follow=True, lines=200)
    assert [next(followed) for _ in lines] == lines
    control.down(directory)
    rest = list(followed)
    start_stack(servers=["valkey"], services=False)

    assert any("Ready to accept connections" in line for line in lines)
    assert any("bye bye" in line for line in rest)
    assert "bye bye" in (directory / "logs" / "valkey.log.1").read_text()
    assert not any("bye bye" in line for line in control.logs(directory, "valkey", lines=500))


def test_an_unknown_process_has_no_log(directory: Path, start_stack: StartStack) -> None:
    start_stack(servers=["valkey"], services=False)

    with pytest.raises(NoStackError, match="valkey"):
        control.logs(directory, "nothing")


def test_an_order_for_an_unknown_process_is_refused(
    directory: Path, start_stack: StartStack
) -> None:
    start_stack(servers=["valkey"], services=False, held=True)

    with pytest.raises(LocalStackError, match="nothing"):
        LocalStack(directory).start("nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
def test_postgres_runs_below_a_directory_that_is_closed_to_others(
    tmp_path: Path, start_stack: StartStack
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    state = start_stack(closed / ".headrace", servers=["postgres"], services=False).state

    record = state.process("postgres")
    assert record is not None
    assert record.pid is not None
    assert psutil.Process(record.pid).username() == "nobody"
    with (
        psycopg.connect(state.env["DATABASE_URL"]) as connection,
        # It may read and pass through everywhere, and write nowhere but in its own directory.
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"COPY (SELECT 1) TO '{closed / 'written'}'".encode())
