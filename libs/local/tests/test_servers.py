"""The four servers as tests and services use them: provisioned, and durable across kills."""

from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
import redis

from headrace_common import keys
from headrace_common.db import Database
from headrace_common.settings import DatabaseSettings, S3Settings, SqsSettings, WebhookSettings
from headrace_common.sqs import sqs_client
from headrace_common.storage import s3_client
from headrace_local.clients import local_s3_client, local_sqs_client
from headrace_local.parts import Part, servers_of
from headrace_local.pytest_plugin import LocalServers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.stack


def _redis(servers: LocalServers) -> "redis.Redis":
    return redis.Redis.from_url(servers.redis_url, password=servers.redis_password)


def _sqs(servers: LocalServers) -> "SQSClient":
    return local_sqs_client(servers.sqs_endpoint_url, **servers.aws_credentials)


def _s3(servers: LocalServers) -> "S3Client":
    return local_s3_client(servers.s3_endpoint_url, **servers.aws_credentials)


def test_one_server_starts_without_the_others(local_servers: LocalServers) -> None:
    with _redis(local_servers) as client:
        client.ping()

    assert local_servers.process("valkey").state == "ready"


def test_the_environment_satisfies_the_services_settings(
    local_servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in local_servers.env().items():
        monkeypatch.setenv(name, value)

    assert WebhookSettings.load().webhook_secret_texts()
    assert SqsSettings.load().use_sqs_queue
    database = Database(DatabaseSettings.load())
    database.ping()
    database.close()
    s3_client(S3Settings.load()).head_bucket(Bucket=local_servers.s3_bucket)
    sqs_client(SqsSettings.load()).get_queue_attributes(
        QueueUrl=local_servers.env()["SQS_QUEUE_URL_HIGH"]
    )


def test_the_api_key_is_valid_and_may_do_everything(local_servers: LocalServers) -> None:
    settings = DatabaseSettings.model_validate({"database_url": local_servers.database_url})
    database = Database(settings)
    try:
        with database.begin() as session:
            principal = keys.authenticate(session, local_servers.api_key)
    finally:
        database.close()

    assert principal.scopes == {scope.value for scope in keys.Scope}


def test_valkey_keeps_data_when_killed(local_servers: LocalServers) -> None:
    with _redis(local_servers) as client:
        client.set("kept", "value")
    before = local_servers.process("valkey")

    local_servers.kill("valkey")
    local_servers.wait_ready("valkey")

    after = local_servers.process("valkey")
    assert after.restarts == before.restarts + 1
    assert after.port == before.port
    with _redis(local_servers) as client:
        assert client.get("kept") == b"value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_valkey_wants_its_password(local_servers: LocalServers) -> None:
    with (
        redis.Redis.from_url(local_servers.redis_url) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_postgres_keeps_data_when_killed(local_servers: LocalServers) -> None:
    with psycopg.connect(local_servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    local_servers.kill("postgres")
    local_servers.wait_ready("postgres")

    with psycopg.connect(local_servers.database_url, autocommit=True) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
        connection.execute("DROP TABLE kept")
    assert row == (42,)


def test_postgres_wants_its_password(local_servers: LocalServers) -> None:
    _, _, place = local_servers.database_url.rpartition("@")

    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@{place}")


def test_s3_keeps_data_when_killed(local_servers: LocalServers) -> None:
    client = _s3(local_servers)
    client.put_object(Bucket=local_servers.s3_bucket, Key="kept", Body=b"value")

    local_servers.kill("s3")
    local_servers.wait_ready("s3")

    answer = client.get_object(Bucket=local_servers.s3_bucket, Key="kept")
    assert answer["Body"].read() == b"value"


def test_s3_gives_nothing_without_credentials(local_servers: LocalServers) -> None:
    local_servers.require("s3")
    _s3(local_servers).put_object(Bucket=local_servers.s3_bucket, Key="secret", Body=b"value")
    ports = local_servers.state.ports

    for port in (ports["s3-filer"], ports["s3"]):
        path = "/buckets" if port == ports["s3-filer"] else ""
        url = f"http://127.0.0.1:{port}{path}/{local_servers.s3_bucket}/secret"
        answer = httpx.get(url, timeout=30)
        assert answer.status_code in {401, 403}
        assert b"value" not in answer.content


def test_sqs_keeps_queues_and_messages_when_stopped_in_order(local_servers: LocalServers) -> None:
    client, name = _sqs(local_servers), "stopped"
    url = client.create_queue(QueueName=name)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="kept")

    local_servers.restart("sqs")

    assert client.get_queue_url(QueueName=name)["QueueUrl"] == url
    messages = client.receive_message(QueueUrl=url)["Messages"]
    assert [message["Body"] for message in messages] == ["kept"]
    client.delete_queue(QueueUrl=url)


def test_all_servers_come_back_when_all_are_killed(local_servers: LocalServers) -> None:
    names = servers_of([Part.AUDIO])
    local_servers.require(*names)

    for name in names:
        local_servers.kill(name)
    local_servers.wait_ready(*names)

    with _redis(local_servers) as client:
        client.ping()
    _s3(local_servers).head_bucket(Bucket=local_servers.s3_bucket)
    assert "QueueUrls" in _sqs(local_servers).list_queues()
