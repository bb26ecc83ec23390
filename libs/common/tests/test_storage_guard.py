import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from headrace_common.circuit import CircuitBreaker, CircuitOpenError, CircuitPolicy, CircuitState
from headrace_common.settings import S3Settings
from headrace_common.storage import guard, s3_client, s3_signing_client
from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalServers


@pytest.mark.stack
def test_an_answer_closes_the_circuit_and_silence_opens_it(local_servers: LocalServers) -> None:
    env = {key.lower(): value for key, value in local_servers.env("s3").items()}
    settings = S3Settings.model_validate(env)
    breaker = CircuitBreaker("s3", CircuitPolicy(failures=1, first_seconds=20))
    client = s3_client(settings)
    guard(client, breaker)
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=settings.s3_bucket, Key="audio/nothing")
    assert breaker.view().state is CircuitState.CLOSED

    nobody = f"http://127.0.0.1:{reserve_port()}"
    away = s3_client(settings.model_copy(update={"s3_endpoint_url": nobody}))
    guard(away, breaker)
    with pytest.raises(EndpointConnectionError):
        away.head_bucket(Bucket=settings.s3_bucket)
    assert breaker.view().state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError) as refused:
        client.head_bucket(Bucket=settings.s3_bucket)
    assert (refused.value.retry_after or 0) > 10
    breaker.succeeded()
    client.head_bucket(Bucket=settings.s3_bucket)


def test_urls_are_signed_for_the_address_that_clients_reach() -> None:
    settings = S3Settings.model_validate(
        {
            "s3_endpoint_url": "http://inside:9000",
            "s3_public_endpoint_url": "https://outside.example",
            "aws_access_key_id": "id",
            "aws_secret_access_key": "secret",
        }
    )
    url = s3_signing_client(settings).generate_presigned_url(
        "upload_part",
        Params={"Bucket": "media", "Key": "a", "UploadId": "u", "PartNumber": 1},
        ExpiresIn=60,
    )
    assert url.startswith("https://outside.example/media/a?")
    assert "checksum" not in url
