"""Who may report on a job: Standard Webhooks signatures, and per-job callback tokens.

Signatures follow https://www.standardwebhooks.com (HMAC-SHA256 over `id.timestamp.body`).
Callback tokens are for analysis servers that know nothing of signatures and simply POST to
`callback_url`: the token is part of that URL and is good for one job only.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode, urlsplit

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

#: Bytes of secret that the specification asks for.
_SECRET_BYTES: Final = range(24, 65)


class InvalidSignatureError(Exception):
    """A webhook's signature is missing, wrong, malformed, or outside the time window."""


def secret_from_bytes(key: bytes) -> str:
    """Return `key` in the `whsec_...` notation of Standard Webhooks.

    Raises:
        ValueError: `key` is shorter than 24 or longer than 64 bytes.
    """
    if len(key) not in _SECRET_BYTES:
        raise ValueError(f"a webhook secret has 24 to 64 bytes, this one has {len(key)}")
    return "whsec_" + base64.b64encode(key).decode()


def check_secret(secret: str) -> str:
    """Return `secret` if it is a usable `whsec_...` secret.

    Raises:
        ValueError: it is not base64, or not of 24 to 64 bytes.
    """
    key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    secret_from_bytes(key)
    return secret


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether the sender claims to have signed: any of the three headers is there."""
    return any(name in headers for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))


def sign(
    body: bytes, *, secrets: Sequence[str], message_id: str, now: datetime | None = None
) -> dict[str, str]:
    """Return the three headers that sign `body`, with one signature for each of `secrets`."""
    moment = now or datetime.now(UTC)
    signatures = [Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets]
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(int(moment.timestamp())),
        SIGNATURE_HEADER: " ".join(signatures),
    }


def verify(body: bytes, headers: Mapping[str, str], *, secrets: Sequence[str]) -> str:
    """Check that one of `secrets` signed `body` within the last or next five minutes.

    Args:
        body: the raw bytes received.
        headers: the request's headers with lower-case names.
        secrets: every secret accepted, so that they can be rotated.

    Returns:
        The webhook's id, by which a replay is recognised.

    Raises:
        InvalidSignatureError: none of them did.
    """
    reason = "no secret is configured"
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError as error:
            reason = str(error)
        except ValueError:  # the library leaves malformed base64, commas and UTF-8 to the caller
            reason = "Malformed signature headers or body"
        else:
            return headers[ID_HEADER]
    raise InvalidSignatureError(reason)


def callback_token(job_id: str, *, secret: str) -> str:
    """Return the token that allows reporting on `job_id` and on nothing else."""
    digest = hmac.digest(secret.encode(), f"callback:{job_id}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def callback_token_is_valid(token: str, job_id: str, *, secrets: Sequence[str]) -> bool:
    """Whether one of `secrets` made `token` for `job_id`."""
    given = token.encode()
    return any(
        hmac.compare_digest(given, callback_token(job_id, secret=secret).encode())
        for secret in secrets
    )


def callback_url(webhook_url: str, job_id: str, *, token: str | None, run: int = 1) -> str:
    """Return `webhook_url` with the query that says on what an analysis server reports (A5).

    Args:
        webhook_url: the results service's.
        job_id: the job's.
        token: of the job, if it has one.
        run: of the job; the first is not named, and is what a URL without one means.
    """
    query = {"job_id": job_id}
    if token is not None:
        query["token"] = token
    if run > 1:
        query["run"] = str(run)
    separator = "&" if urlsplit(webhook_url).query else "?"
    return f"{webhook_url}{separator}{urlencode(query)}"
