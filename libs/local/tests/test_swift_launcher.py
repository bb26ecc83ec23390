"""What the launcher of Swift adds to it."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from headrace_local.servers.swift_launcher import Cache, cache_factory, guard_factory


def test_the_cache_forgets_what_is_over_and_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache()
    cache.set("short", 1, time=5)
    cache.set("long", 2)
    later = time.monotonic() + 6
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert cache.get("short") is None
    assert cache.get("long") == 2
    monkeypatch.setattr(Cache, "LIMIT", 3)
    cache.set_multi({"a": 1, "b": 2, "c": 3}, "server", time=5)
    assert cache.get_multi(["long", "a", "b", "c"], "server") == [None, 1, 2, 3]


def test_the_cache_counts() -> None:
    cache = Cache()

    assert [cache.incr("n"), cache.incr("n", 4), cache.decr("n", 2), cache.decr("n", 9)] == [
        *(1, 5, 3, 0)
    ]
    cache.delete("n")
    assert cache.get("n") is None


def _app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [str("swift.cache" in environ).encode()]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, "403 Forbidden"),
        ({"HTTP_X_BACKEND_HEADRACE_KEY": "wrong"}, "403 Forbidden"),
        ({"HTTP_X_BACKEND_HEADRACE_KEY": "right"}, "200 OK"),
    ],
)
def test_the_guard_wants_the_key(headers: dict[str, str], status: str) -> None:
    statuses: list[str] = []

    guard_factory({}, storage_key="right")(_app)(headers, lambda said, _: statuses.append(said))

    assert statuses == [status]


def test_each_request_gets_the_cache() -> None:
    assert list(cache_factory({})(_app)({}, lambda *_: None)) == [b"True"]
