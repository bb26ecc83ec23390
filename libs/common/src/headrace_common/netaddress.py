"""Which URLs and addresses may be reached: decisions only, no network. `netguard` acts on them."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from headrace_common.errors import BadRequestError, ForbiddenError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Longest URL that is followed; browsers and servers stop at about the same.
MAX_URL_CHARS: Final = 4096
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
#: What a URL parser and a socket library may read differently is not read at all.
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\<>\"{}|^`]")
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMERIC_LABEL: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
#: Never, whatever the configuration says: link-local (cloud metadata), the metadata addresses of
#: Azure, Alibaba, Oracle and AWS over IPv6 that are not link-local, "this network", multicast.
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32",
        "224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "fd00:ec2::254/128", "ff00::/8",
    )
)  # fmt: skip
#: IPv6 that reaches IPv4 by other roads: 6to4, Teredo, local NAT64, IPv4-compatible, site-local.
_TUNNELS: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("2002::/16", "2001::/32", "64:ff9b:1::/48", "::/96", "fec0::/10")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class UrlRefusedError(BadRequestError):
    """The URL itself is not one that is followed: scheme, form or length."""

    code = "url_refused"
    title = "URL refused"


class AddressRefusedError(ForbiddenError):
    """The host, or an address that it resolves to, is not one that may be reached."""

    code = "address_refused"
    title = "Address refused"


@dataclass(frozen=True)
class NetworkPolicy:
    """Which hosts may be reached.

    Attributes:
        allowed_hosts: when empty, any host whose addresses are all public. Otherwise only these:
            `cam.example.org`, `*.example.org`, `10.20.0.5`, each also with `:port`. A listed host
            may be private, as cameras are; link-local and metadata addresses stay refused.
    """

    allowed_hosts: tuple[str, ...] = ()

    def names(self, host: str, port: int) -> bool:
        """Return whether the list names this host."""
        return any(_names(entry.lower(), host, port) for entry in self.allowed_hosts)


def split_url(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path with query of a URL that two parsers read alike.

    Raises:
        UrlRefusedError: not http or https, user information, an unusual number for a host, or
            characters that parsers disagree on.
    """
    if len(url) > MAX_URL_CHARS or _UNSAFE.search(url):
        raise UrlRefusedError("the URL is too long or has characters that it must not have")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii").lower()
    except ValueError as error:
        raise UrlRefusedError("the URL cannot be read") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise UrlRefusedError(f"scheme {parts.scheme[:20] or 'none'} is not http or https")
    if "@" in parts.netloc:
        raise UrlRefusedError("the URL has user information before its host")
    _check_host(host)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        path.encode("ascii")
    except UnicodeEncodeError as error:
        raise UrlRefusedError("the path must be percent-encoded") from error
    return parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], path


def refusal(address: str, *, private_allowed: bool = False) -> str | None:
    """Return why an address must not be connected to, or nothing.

    Args:
        address: IPv4 or IPv6, as a resolver gives it.
        private_allowed: the operator named the host, so private and loopback addresses pass.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = _embedded_ipv4(parsed)
    if any(parsed in network for network in _NEVER if network.version == parsed.version):
        return "link-local, metadata or reserved"
    if inner is not None:
        return refusal(str(inner), private_allowed=private_allowed)
    if parsed.is_loopback or parsed.is_private or not parsed.is_global:
        return None if private_allowed else "not public"
    if any(parsed in network for network in _TUNNELS if network.version == parsed.version):
        return "a tunnel to another network"
    return None


def _embedded_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped


def _check_host(host: str) -> None:
    """Refuse what is neither a plain name nor a plain address: 2130706433, 0x7f.1, 0177.0.0.1."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last_label = host.rpartition(".")[2]
        if not _HOST.fullmatch(host) or _NUMERIC_LABEL.fullmatch(last_label):
            raise UrlRefusedError("the host is neither a name nor a plain address") from None


def _names(entry: str, host: str, port: int) -> bool:
    name, colon, wanted_port = entry.rpartition(":")
    if not colon or not wanted_port.isdigit() or (":" in name and not name.startswith("[")):
        name, wanted_port = entry, ""
    name = name.strip("[]")
    if wanted_port and int(wanted_port) != port:
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
