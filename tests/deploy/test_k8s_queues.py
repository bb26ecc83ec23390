"""What KEDA is told to count is what our code makes: asked as KEDA asks, on a real server."""

import redis
from k8s_manifests import Manifest, named, render

from headrace_common.broker import make_broker, new_message, send
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.redis_client import redis_client
from headrace_common.settings import RedisSettings
from headrace_local.pytest_plugin import LocalServers

#: Apart from what other tests keep on the same server.
_DATABASE = 9


def _trigger(scaled: str, name: str) -> Manifest:
    spec = named(render("production"), "ScaledObject", scaled)["spec"]
    [found] = [each["metadata"] for each in spec["triggers"] if each["name"] == name]
    return dict(found)


def _settings(local_servers: LocalServers) -> RedisSettings:
    return RedisSettings.model_validate(
        {
            "redis_url": local_servers.redis_url.rpartition("/")[0] + f"/{_DATABASE}",
            "redis_password": local_servers.redis_password,
        }
    )


def test_messages_of_a_lane_are_counted(local_servers: LocalServers) -> None:
    settings = _settings(local_servers)
    client = redis_client(settings)
    broker = make_broker(settings)
    try:
        for number, lane in enumerate(Lane, start=1):
            for index in range(number):
                job = DispatchJob(job_id=f"{lane}-{index}")
                send(broker, new_message(dispatch_actor(lane), lane.queue_name, job))
            name = _trigger("dispatcher", lane)["listName"]
            assert (client.type(name), client.llen(name)) == (b"list", number)
    finally:
        client.flushdb()
        broker.close()
        client.close()


def test_entries_that_wait_and_that_are_in_hand_are_counted(local_servers: LocalServers) -> None:
    client = redis_client(_settings(local_servers))
    waiting, started = (
        _trigger("gpu-preprocessor", "waiting"),
        _trigger("gpu-preprocessor", "started"),
    )
    stream, group = waiting["stream"], waiting["consumerGroup"]
    assert (started["stream"], started["consumerGroup"]) == (stream, group)
    assert waiting["lagCount"] == started["pendingEntriesCount"]
    try:
        # As the gpu-preprocessor does: from the beginning, or there would be no lag to tell.
        client.xgroup_create(stream, group, id="0", mkstream=True)
        for number in range(1, 6):
            client.xadd(stream, {"cctvId": "one"}, id=f"{number}-0")
        client.xreadgroup(group, "pod", {stream: ">"}, count=2)
        assert _counted(client, stream, group) == (3, 2)
        # What is done is trimmed, and counts no more.
        client.xack(stream, group, "1-0", "2-0")
        client.xtrim(stream, minid="3-0", approximate=False)
        assert _counted(client, stream, group) == (3, 0)
    finally:
        client.flushdb()
        client.close()


def _counted(client: redis.Redis, stream: str, group: str) -> tuple[int, int]:
    [found] = client.xinfo_groups(stream)
    assert found["name"] == group.encode()
    return found["lag"], client.xpending(stream, group)["pending"]
