"""One stack for all acceptance tests, started as a user would."""

from collections.abc import Iterator

import pytest
from otlp_receiver import OtlpReceiver
from stack_user import User

from headrace_local.pytest_plugin import LocalStack


@pytest.fixture(scope="session")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


@pytest.fixture(scope="session")
def stack_settings(receiver: OtlpReceiver) -> dict[str, str]:
    """Let every service say what it does: what is accepted is accepted with tracing on."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "250"}


@pytest.fixture(scope="session")
def user(local_stack: LocalStack) -> Iterator[User]:
    someone = User(local_stack)
    yield someone
    someone.close()
