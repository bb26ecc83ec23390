"""Where a report goes, and whether it may: the URL comes from outside."""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from headrace_common.errors import UnprocessableError


class CallbackNotAllowedError(UnprocessableError):
    """The callback URL names a host that CALLBACK_ALLOWED_HOSTS does not."""

    code = "callback_not_allowed"
    title = "Callback not allowed"


@dataclass(frozen=True, slots=True)
class Callback:
    """Whom to tell about which job."""

    job_id: str
    url: str

    @property
    def host(self) -> str:
        """The URL's host and port, for logs: the rest may hold a token."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def run(self) -> int:
        """Run of the job, as the URL names it; the first is not named."""
        named = parse_qs(urlsplit(self.url).query).get("run", [""])[0]
        return int(named) if named.isdecimal() else 1


def check_callback(url: str, allowed: Collection[str]) -> None:
    """Check a callback URL against the allow-list.

    Args:
        url: as the request gives it.
        allowed: `host` for any port, or `host:port`; IPv6 addresses in brackets.

    Raises:
        CallbackNotAllowedError: another host, another scheme than http and https, user
            information in the URL, or no URL at all.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise CallbackNotAllowedError("callback_url is not a URL") from None
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc or "\\" in url:
        raise CallbackNotAllowedError("callback_url must be a plain http:// or https:// URL")
    name = f"[{host}]" if ":" in host else host
    with_port = f"{name}:{port or (443 if parts.scheme == 'https' else 80)}"
    if not {name, with_port} & {entry.lower() for entry in allowed}:
        raise CallbackNotAllowedError(f"callback host {with_port!r} is not allowed")
