"""Settings: names of the contract, lists, secrets, and clear refusals at boot."""

import pytest

from headrace_common.settings import (
    BadSettingsError,
    DatabaseSettings,
    ProcessSettings,
    RedisSettings,
    S3Settings,
    SqsSettings,
    WebhookSettings,
)

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "REDIS_PASSWORD", "USE_SQS_QUEUE", "SQS_QUEUE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_listens_beyond_loopback_by_default() -> None:
    assert ProcessSettings.load().host == "127.0.0.1"
    assert ProcessSettings.load().legacy_open_endpoints is False
    assert ProcessSettings.load().cors_allow_origins == ()


@pytest.mark.parametrize("name", ["USE_SQS_QUEUE", "USE_QUEUE_SYSTEM"])
def test_the_old_name_of_the_transport_setting_works(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "true")
    monkeypatch.setenv("SQS_QUEUE_URL", "http://localhost:9324/1/audio-analysis-queue")
    assert SqsSettings.load().use_sqs_queue is True


def test_sqs_without_a_queue_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_SQS_QUEUE", "true")
    with pytest.raises(BadSettingsError, match="SQS_QUEUE_URL must be set"):
        SqsSettings.load()


def test_every_fault_is_named_and_no_secret_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://root:hunter2@db/x")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "0")
    with pytest.raises(BadSettingsError) as caught:
        DatabaseSettings.load()
    message = str(caught.value)
    assert "DATABASE_URL: " in message
    assert "DATABASE_POOL_SIZE: " in message
    assert "hunter2" not in message


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_database_schemes_mean_psycopg(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://u:p@h/d")
    url = DatabaseSettings.load().database_url
    assert url.get_secret_value() == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("redis://h:1/0", None, "redis://h:1/0"),
        ("redis://h:1/0", "p@ss/w", "redis://:p%40ss%2Fw@h:1/0"),
        ("redis://u@h:1/0", "x", "redis://u:x@h:1/0"),
        ("redis://:own@h:1/0", "x", "redis://:own@h:1/0"),
    ],
)
def test_the_redis_password_goes_into_the_url(
    url: str, password: str | None, expected: str
) -> None:
    settings = RedisSettings.model_validate({"redis_url": url, "redis_password": password})
    assert settings.redis_url_with_password() == expected


def test_lists_are_words_between_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ALLOWED_BUCKETS", "one, two three")
    assert S3Settings.load().s3_allowed_buckets == ("one", "two", "three")


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", "whsec_%%%"])
def test_a_bad_webhook_secret_stops_the_process(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_URL", "https://example.com/hook")
    monkeypatch.setenv("WEBHOOK_SECRETS", secret)
    with pytest.raises(BadSettingsError, match="WEBHOOK_SECRETS") as caught:
        WebhookSettings.load()
    assert secret not in str(caught.value)
