"""Fixtures: real Keystone and real Swift, a container of its own for each test."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace_common.artifact_sets import generate_signing_key, signing_key_text
from headrace_gpu_preprocessor.artifacts import SwiftSettings, SwiftStore
from headrace_local.pytest_plugin import LocalServers

MakeStore = Callable[..., SwiftStore]


@pytest.fixture
def swift_settings(local_servers: LocalServers) -> SwiftSettings:
    """The servers of this test run; signing."""
    env = local_servers.require("keystone", "swift").state.env
    known = {key: env[key.upper()] for key in SwiftSettings.model_fields if key.upper() in env}
    own: dict[str, Any] = {
        "swift_container": f"test-{uuid.uuid4().hex}",
        "swift_temp_url_key": uuid.uuid4().hex,
        "swift_connect_timeout_seconds": 10,
        "meta_signing_key": signing_key_text(generate_signing_key()),
    }
    return SwiftSettings.model_validate({**known, **own})


@pytest.fixture
def make_swift_store(swift_settings: SwiftSettings) -> Iterator[MakeStore]:
    """Make a store as another process would have it, by the settings with some changed."""
    made: list[SwiftStore] = []

    def make(**changes: Any) -> SwiftStore:
        changed = {**swift_settings.model_dump(), **changes}
        made.append(SwiftStore(SwiftSettings.model_validate(changed)))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def swift_store(make_swift_store: MakeStore) -> SwiftStore:
    """The container of this test; it is made by the first write."""
    return make_swift_store()
