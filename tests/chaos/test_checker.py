"""The checker finds nothing in a world in order, and every bug that is planted in one."""

from collections.abc import Iterator

import pytest
from headrace_chaos.planted import BUGS, Bug, news
from headrace_chaos.violations import ViolationKind
from headrace_chaos.world import World, own_database, small_world

from headrace_local.pytest_plugin import LocalServers

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def world(local_servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        own_database(local_servers) as url,
        small_world(local_servers, url, tmp_path_factory.mktemp("world")) as made,
    ):
        yield made


def test_a_world_in_order_has_no_fault(world: World) -> None:
    assert news(world) == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.kind}: {bug.name}")
def test_a_planted_bug_is_caught(world: World, bug: Bug) -> None:
    found = bug.found(world)
    assert bug.kind in {violation.kind for violation in found}, found


def test_every_kind_of_violation_has_a_planted_bug() -> None:
    assert {bug.kind for bug in BUGS} == set(ViolationKind)
