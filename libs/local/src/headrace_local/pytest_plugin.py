"""Fixtures: the real servers, and whole stacks, for tests.

`local_servers` starts each server when it is first asked for, so that a test that needs only
the database waits for nothing else. `local_stack` runs the services of the audio path too,
`camera_stack` those of the camera path. Each has a directory and ports of its own in each test
process, and ends with it, even when it is killed; a whole stack behind the last test in a row
that uses it.
"""

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from headrace_common.loading import loading
from headrace_local import control
from headrace_local.channel import order
from headrace_local.errors import LocalStackError, NoStackError
from headrace_local.overrides import Overrides
from headrace_local.parts import Part, servers_of
from headrace_local.pytest_order import dear_to
from headrace_local.servers import SERVER_NAMES
from headrace_local.state import ProcessRecord, ProcessState, StackState

_POLL_SECONDS: Final = 0.02


class LocalStack:
    """A running stack, as tests see it."""

    def __init__(self, directory: Path) -> None:
        """Make it for the stack that runs in `directory`."""
        self.directory = directory

    @property
    def state(self) -> StackState:
        """The state as it is now."""
        return control.require_running(self.directory)

    def process(self, name: str) -> ProcessRecord:
        """Return what is known of a process.

        Raises:
            NoStackError: there is none of that name.
        """
        record = self.state.process(name)
        if record is None:
            raise NoStackError(f"no process called {name!r}")
        return record

    def start(self, *names: str) -> None:
        """Start processes, and wait until they are ready."""
        order(self.state, "start", names)

    def stop(self, *names: str) -> None:
        """Stop processes, which stay down until they are started."""
        order(self.state, "stop", names)

    def restart(self, *names: str) -> None:
        """Stop processes in order and start them again."""
        order(self.state, "restart", names)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal; if it dies the supervisor starts it again (see `wait_ready`)."""
        record = self.process(name)
        process = record.identity.find() if record.identity else None
        if process is None:
            raise LocalStackError(f"{name} does not run")
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(timeout=30)

    def wait_ready(self, *names: str, timeout: float = 120) -> None:
        """Wait until processes run and are ready, after a kill for instance.

        Args:
            names: which.
            timeout: seconds in all.

        Raises:
            LocalStackError: one of them failed, or took too long.
        """
        deadline = time.monotonic() + timeout
        for name in names:
            while not _is_ready(record := self.process(name)):
                if record.state is ProcessState.FAILED or time.monotonic() > deadline:
                    raise LocalStackError(f"{name} is {record.state}: {record.error}")
                time.sleep(_POLL_SECONDS)


class LocalServers(LocalStack):
    """The servers, each started when it is first used."""

    def require(self, *names: str) -> "LocalServers":
        """Start those of the named servers that do not run.

        Args:
            names: which, with what they need; the audio path's when none is named.
        """
        wanted = names or servers_of([Part.AUDIO])
        down = [name for name in wanted if self.process(name).state is not ProcessState.READY]
        if down:
            self.start(*down)
        return self

    def env(self, *names: str) -> dict[str, str]:
        """Return what a service gets as its environment, with servers running as in `require`."""
        return dict(self.require(*names).state.env)

    @property
    def database_url(self) -> str:
        """PostgreSQL, with the schema migrated."""
        return self._setting("postgres", "DATABASE_URL")

    @property
    def redis_url(self) -> str:
        """Valkey, without the password."""
        return self._setting("valkey", "REDIS_URL")

    @property
    def redis_password(self) -> str:
        """Valkey's password."""
        return self._setting("valkey", "REDIS_PASSWORD")

    @property
    def s3_endpoint_url(self) -> str:
        """S3, with the bucket made."""
        return self._setting("s3", "S3_ENDPOINT_URL")

    @property
    def s3_bucket(self) -> str:
        """The bucket."""
        return self._setting("s3", "S3_BUCKET")

    @property
    def sqs_endpoint_url(self) -> str:
        """SQS, with the queues made."""
        return self._setting("sqs", "SQS_ENDPOINT_URL")

    @property
    def aws_credentials(self) -> dict[str, str]:
        """Keyword arguments of `boto3.client`: region and keys of S3 and SQS."""
        env = self.state.env
        return {
            "region_name": env["AWS_REGION"],
            "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        }

    @property
    def api_key(self) -> str:
        """A key with every scope."""
        key = self.require("postgres").state.api_key
        if key is None:
            raise LocalStackError("the stack has no API key")
        return key

    def _setting(self, server: str, name: str) -> str:
        return self.require(server).state.env[name]


def _is_ready(record: ProcessRecord) -> bool:
    """Whether it is; the death of a process is noticed a moment after it."""
    alive = record.identity is not None and record.identity.is_alive()
    return alive and record.state is ProcessState.READY


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Load all tests as a program is loaded; it takes a third of the time from it."""
    with loading():
        return (yield)


@pytest.fixture(scope="session")
def local_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """The real servers, provisioned, each started when it is first used."""
    directory = tmp_path_factory.mktemp("servers") / "stack"
    control.up_detached(
        directory, servers=SERVER_NAMES, services=False, held=True, parent=os.getpid()
    )
    try:
        yield LocalServers(directory)
    finally:
        _end(directory)


@pytest.fixture(scope="session")
def stack_settings() -> dict[str, str]:
    """What the services of whole stacks get besides; for a suite to have otherwise."""
    return {}


@pytest.fixture(scope="session")
def local_stack(
    tmp_path_factory: pytest.TempPathFactory, stack_settings: dict[str, str]
) -> Iterator[LocalStack]:
    """The audio path: its real servers, and all of its services on them."""
    place = tmp_path_factory.mktemp("stack")
    yield from _run_stack("local_stack", place, Part.AUDIO, stack_settings)


@pytest.fixture(scope="session")
def camera_stack(
    tmp_path_factory: pytest.TempPathFactory, stack_settings: dict[str, str]
) -> Iterator[LocalStack]:
    """The camera path: its real servers, and all of its services on them."""
    place = tmp_path_factory.mktemp("camera-stack")
    yield from _run_stack("camera_stack", place, Part.CCTV, stack_settings)


class _StackRun:
    """A stack that runs while tests need it: doing nothing it takes a tenth of a core."""

    def __init__(self, directory: Path, part: Part, settings: dict[str, str]) -> None:
        self.directory = directory
        self._part = part
        self._overrides = Overrides(settings=settings)
        self._runs = False

    def wake(self) -> None:
        if not self._runs:
            control.up_detached(
                self.directory,
                parts=[self._part],
                parent=os.getpid(),
                overrides=self._overrides,
            )
            self._runs = True

    def rest(self) -> None:
        if self._runs:
            _end(self.directory)
            self._runs = False


#: By the name of the fixture, the stacks that were started.
_stacks: dict[str, _StackRun] = {}


def _run_stack(
    fixture: str, place: Path, part: Part, settings: dict[str, str]
) -> Iterator[LocalStack]:
    run = _stacks[fixture] = _StackRun(place / "stack", part, settings)
    run.wake()
    try:
        yield LocalStack(run.directory)
    finally:
        run.rest()
        del _stacks[fixture]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start a stack again that was taken to be done with; it keeps its data and its ports."""
    for fixture, run in _stacks.items():
        if fixture in _fixtures(item):
            run.wake()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End the stacks that the next test's file does not use: hardly ever does a later one."""
    for fixture, run in _stacks.items():
        if nextitem is None or fixture in (dear_to(nextitem.path), *_fixtures(nextitem)):
            continue
        run.rest()


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _end(directory: Path) -> None:
    """End a stack that no test looks at any more: nothing of it is worth an orderly stop."""
    control.down(directory, hurried=True)
