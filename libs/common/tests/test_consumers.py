from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from dramatiq import Message
from dramatiq.errors import ConnectionClosed

from headrace_common.broker import make_broker
from headrace_common.consumers import RepairingBroker
from headrace_common.settings import RedisSettings
from headrace_local.pytest_plugin import LocalServers

QUEUE = "errands"


@pytest.fixture
def broker(local_servers: LocalServers) -> Iterator[RepairingBroker]:
    settings = RedisSettings.model_validate(
        {
            "redis_url": local_servers.redis_url,
            "redis_password": local_servers.redis_password,
            "dramatiq_namespace": f"test-{uuid4().hex}",
        }
    )
    made = make_broker(settings)
    assert isinstance(made, RepairingBroker)
    made.declare_queue(QUEUE)
    yield made
    made.flush_all()
    made.close()


def enqueue(broker: RepairingBroker, *, delay: int | None = None) -> str:
    message: Message[None] = Message(QUEUE, "run", (), {}, {})
    return broker.enqueue(message, delay=delay).message_id


def fetched(broker: RepairingBroker) -> list[bytes]:
    """Return the keys of what this worker has in hand, as Redis sees it."""
    key = f"{broker.namespace}:__acks__.{broker.broker_id}.{QUEUE}"
    return list(broker.client.smembers(key))


def test_a_message_whose_answer_was_lost_is_fetched_again(broker: RepairingBroker) -> None:
    message_id = enqueue(broker)
    assert len(broker.do_fetch(QUEUE, 1)) == 1, "and nobody hears of it"

    consumer = broker.consume(QUEUE, prefetch=1)
    message = next(consumer)
    assert message is not None
    assert message.message_id == message_id
    consumer.close()
    assert len(fetched(broker)) == 1, "what is worked on stays in hand"
    consumer.ack(message)
    assert fetched(broker) == []
    assert broker.client.hlen(f"{broker.namespace}:{QUEUE}.msgs") == 0


def test_a_silent_server_is_tried_again(
    broker: RepairingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = broker.consume(QUEUE, prefetch=1)

    def silent(*_: object) -> None:
        raise redis.TimeoutError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(broker.client, "smembers", silent)
        with pytest.raises(ConnectionClosed):
            next(consumer)


def test_what_waited_for_its_time_is_not_forgotten_with_its_consumer(
    broker: RepairingBroker,
) -> None:
    enqueue(broker, delay=60_000)
    delayed = f"{QUEUE}.DQ"
    first = broker.consume(delayed, prefetch=1)
    assert next(first) is not None
    first.close()

    second = broker.consume(delayed, prefetch=1)
    assert next(second) is not None, "the thread that held it has begun anew"
