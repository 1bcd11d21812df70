"""Requests to addresses that a caller named: they must not reach what only this server can."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

import httpx

from lakemesh.errors import InvalidRequest

RESOLVE_SECONDS = 5.0
PORTS = frozenset({80, 443})
"""Ports below 1024 that may be asked for: the others belong to services that are no web servers (SSH, SMTP, ...)."""
FIRST_FREE_PORT = 1024
NOT_HTTP_PORTS = frozenset({2375, 2376, 2379, 3306, 5432, 5672, 6379, 9042, 9092, 10250, 11211, 27017})
"""Databases, queues and control planes that take a line of text for a command, or have no password."""
METADATA = frozenset({"168.63.129.16", "192.0.0.192"})
"""Addresses of clouds' own services (Azure, Oracle) among the internet's."""
CARRIERS = [ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")]
"""RFC 4291 (IPv4-compatible), RFC 2765 (IPv4-translated), RFC 6052 (NAT64)."""
NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(text) for text in ("fec0::/10", "64:ff9b:1::/48", "2001::/32", "::/128", "::1/128")
]
"""Site-local (RFC 3879), local NAT64 (RFC 8215), Teredo, and this host."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a checked request goes: the address that was checked, under the name that was asked for. A name that is
    looked up again could lead elsewhere by then (DNS rebinding)."""

    url: httpx.URL
    asked: httpx.URL

    @property
    def headers(self) -> dict[str, str]:
        return {"Host": self.asked.netloc.decode("ascii")}

    @property
    def extensions(self) -> dict[str, str]:
        """For httpx: the name that the server's certificate must be for."""
        return {"sni_hostname": self.asked.host}


async def checked(address: str, *, allow_private: bool) -> Destination:
    """The destination of an `http` or `https` URL. Raises `InvalidRequest` for another scheme, credentials in the
    URL, a name that cannot be resolved, and, unless `allow_private`, an address that is not public or a port that web
    servers do not use."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise InvalidRequest("The URL is not one.") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise InvalidRequest("The URL must be http or https, with a host and without credentials.")
    port = url.port or (443 if url.scheme == "https" else 80)
    if not allow_private and not is_web_port(port):
        raise InvalidRequest("The URL's port is not one of a web server.")
    addresses = await resolve(url.host, port)
    if not allow_private and not all(is_public(found) for found in addresses):
        raise InvalidRequest("The URL leads to an address that is not public.")
    return Destination(url.copy_with(host=addresses[0]), url)


async def resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise InvalidRequest("The URL's host cannot be found.") from None
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def is_web_port(port: int) -> bool:
    return port in PORTS or (port >= FIRST_FREE_PORT and port not in NOT_HTTP_PORTS)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's own. An IPv6 address that carries an IPv4 one is judged by it."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in network for network in NOT_PUBLIC_6):
            return False
        parsed = carried(parsed) or parsed
    return parsed.is_global and not parsed.is_multicast and str(parsed) not in METADATA


def carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address in one of IPv6 that stands for it: mapped, compatible, translated, 6to4 or NAT64."""
    found = address.ipv4_mapped or address.sixtofour
    if found is None and any(address in network for network in CARRIERS):
        found = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return found
