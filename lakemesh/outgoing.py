"""Requests to addresses that a caller named: they must not reach what only this server can."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

import httpx

from lakemesh.errors import InvalidRequest

RESOLVE_SECONDS = 5.0


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
    URL, a name that cannot be resolved, and, unless `allow_private`, an address that is not public."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise InvalidRequest("The URL is not one.") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise InvalidRequest("The URL must be http or https, with a host and without credentials.")
    addresses = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
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


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's own. An IPv6 address that carries an IPv4 one is judged by it."""
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    judged = mapped or parsed
    return judged.is_global and not judged.is_multicast
