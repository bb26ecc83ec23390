"""Signatures of Standard Webhooks, and the tokens of callback URLs."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from headrace_common import webhooks
from headrace_common.webhooks import InvalidSignatureError, secret_from_bytes

OLD, NEW = secret_from_bytes(b"o" * 24), secret_from_bytes(b"n" * 64)
BODY = '{"status":"completed","message":"größer"}'.encode()


def test_the_signature_is_the_specifications_own_example() -> None:
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    headers = webhooks.sign(
        b'{"test": 2432232314}',
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        now=datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_what_was_signed_is_verified_and_names_its_id() -> None:
    headers = webhooks.sign(BODY, secrets=[NEW], message_id="msg-1")
    assert webhooks.verify(BODY, headers, secrets=[OLD, NEW]) == "msg-1"


def test_a_sender_in_rotation_signs_with_both_secrets() -> None:
    headers = webhooks.sign(BODY, secrets=[OLD, NEW], message_id="msg-1")
    assert webhooks.verify(BODY, headers, secrets=[OLD]) == "msg-1"
    assert webhooks.verify(BODY, headers, secrets=[NEW]) == "msg-1"


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_signature_outside_the_time_window_is_refused(minutes: int) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    headers = webhooks.sign(BODY, secrets=[NEW], message_id="msg-1", now=moment)
    with pytest.raises(InvalidSignatureError, match=r"too (old|new)"):
        webhooks.verify(BODY, headers, secrets=[NEW])


@pytest.mark.parametrize(
    ("change", "body"),
    [
        ({}, BODY + b" "),
        ({"webhook-id": "msg-2"}, BODY),
        ({"webhook-signature": "v1,AAAA"}, BODY),
        ({"webhook-signature": "v1,not base64!"}, BODY),
        ({"webhook-signature": "no comma"}, BODY),
        ({"webhook-signature": "v1,a,b"}, BODY),
        ({"webhook-signature": ""}, BODY),
        ({"webhook-timestamp": "soon"}, BODY),
        ({}, b"\xff\xfe"),
    ],
)
def test_anything_else_is_refused(change: dict[str, str], body: bytes) -> None:
    headers = webhooks.sign(BODY, secrets=[NEW], message_id="msg-1") | change
    with pytest.raises(InvalidSignatureError):
        webhooks.verify(body, headers, secrets=[NEW])


def test_nothing_is_verified_without_a_secret() -> None:
    headers = webhooks.sign(BODY, secrets=[NEW], message_id="msg-1")
    with pytest.raises(InvalidSignatureError):
        webhooks.verify(BODY, headers, secrets=[])


def test_a_callback_token_is_good_for_its_job_only() -> None:
    token = webhooks.callback_token("job-1", secret="s" * 32)
    secrets = ["t" * 32, "s" * 32]
    assert webhooks.callback_token_is_valid(token, "job-1", secrets=secrets)
    assert not webhooks.callback_token_is_valid(token, "job-2", secrets=secrets)
    assert not webhooks.callback_token_is_valid(token, "job-1", secrets=secrets[:1])
    assert not webhooks.callback_token_is_valid("", "job-1", secrets=secrets)
    assert not webhooks.callback_token_is_valid("größe", "job-1", secrets=secrets)


def test_the_callback_url_carries_job_and_token_beside_what_was_there() -> None:
    url = webhooks.callback_url("https://example.com/hook?tenant=a", "j 1", token="t&")
    assert parse_qs(urlsplit(url).query) == {"tenant": ["a"], "job_id": ["j 1"], "token": ["t&"]}


@pytest.mark.parametrize("length", [23, 65])
def test_a_secret_has_24_to_64_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        secret_from_bytes(b"x" * length)
