"""One stack for all acceptance tests, started as a user would."""

from collections.abc import Iterator

import pytest
from stack_user import User

from headrace_local.pytest_plugin import LocalStack


@pytest.fixture(scope="session")
def user(local_stack: LocalStack) -> Iterator[User]:
    someone = User(local_stack)
    yield someone
    someone.close()
