"""Which ports a stack takes."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_local import ports
from headrace_local.errors import LocalStackError
from headrace_local.ports import choose_ports, is_free, reserve_port

_HERE = Path("/somewhere/.headrace")
_EPHEMERAL_FROM = 32_768
_EPHEMERAL_TO = 60_999


def _all_free(_: int) -> bool:
    return True


def test_ports_are_distinct_and_below_the_ephemeral_range() -> None:
    wanted = {"a": (), "b": (10_000,), "c": (10_000,)}

    chosen = choose_ports(wanted, previous={}, directory=_HERE, free=_all_free)

    taken = [chosen["a"], *(chosen[name] + offset for name in "bc" for offset in (0, 10_000))]
    assert len(set(taken)) == 5
    assert max(taken) < _EPHEMERAL_FROM


def test_previous_ports_are_kept() -> None:
    previous = {"a": 12_345, "b": 12_346}

    chosen = choose_ports({"a": (), "b": ()}, previous=previous, directory=_HERE, free=_all_free)

    assert chosen == previous


@pytest.mark.parametrize("taken", [12_345, 22_345], ids=["the port", "its companion"])
def test_a_taken_port_is_left(taken: int) -> None:
    chosen = choose_ports(
        {"a": (10_000,)},
        previous={"a": 12_345},
        directory=_HERE,
        free=lambda port: port != taken,
    )

    assert chosen["a"] != 12_345


def test_a_new_name_does_not_take_the_port_of_an_old_one() -> None:
    first = choose_ports({"new": ()}, previous={}, directory=_HERE, free=_all_free)["new"]

    chosen = choose_ports(
        {"new": (), "old": ()}, previous={"old": first}, directory=_HERE, free=_all_free
    )

    assert chosen["old"] == first
    assert chosen["new"] != first


def test_directories_begin_their_search_apart() -> None:
    ports = {
        choose_ports({"a": ()}, previous={}, directory=Path(f"/{name}"), free=_all_free)["a"]
        for name in "abcdefgh"
    }

    assert len(ports) == 8


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(LocalStackError, match="no free port for a"):
        choose_ports({"a": ()}, previous={}, directory=_HERE, free=lambda _: False)


def test_a_listener_makes_a_port_taken() -> None:
    port = reserve_port()
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


def test_a_reserved_port_is_nobody_elses() -> None:
    mine = {reserve_port() for _ in range(3)}
    program = "from headrace_local.ports import reserve_port; print(reserve_port())"
    others = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert len(mine) == 3
    assert min(mine) > _EPHEMERAL_TO
    assert int(others.stdout) not in mine
    assert is_free(int(others.stdout))


def test_where_nothing_can_be_locked_a_process_still_gets_different_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(ports, "_CLAIMS", tmp_path / "file" / "claims")
    assert len({reserve_port() for _ in range(3)}) == 3


def test_two_stacks_that_choose_at_the_same_time_choose_apart() -> None:
    chosen = choose_ports({"a": (), "b": (10_000,)}, previous={}, directory=_HERE)
    program = (
        "from pathlib import Path; from headrace_local.ports import choose_ports;"
        f"print(*choose_ports({{'a': (), 'b': (10_000,)}}, previous={chosen},"
        f" directory=Path({str(_HERE)!r})).values())"
    )

    others = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert not set(map(int, others.stdout.split())) & set(chosen.values())
