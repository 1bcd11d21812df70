"""Where a request may come from: names the server answers to, and pages that may call it.

A page in a browser must not reach a server on its user's machine: not by its origin, and not by a name that was made
to point there (DNS rebinding). Browsers let any page send requests and name the page's origin with them; programs name
none. A host given as an IP address cannot have been rebound, so addresses are always answered.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from lakemesh.config.server import ServerConfig
from lakemesh.errors import InvalidRequest, PermissionDenied

HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")
KEPT_HOSTS = 1_024


class SourceRule:
    """`loopback_only`: without `server.allowed_hosts` only loopback names are answered, since nobody authenticates.
    `forwarded`: the proxy before the server names the host and the scheme that the caller used."""

    def __init__(self, config: ServerConfig, *, loopback_only: bool, forwarded: bool) -> None:
        self._forwarded = forwarded
        self._public_origin = None if config.public_url is None else origin_of(config.public_url)
        self._origins = frozenset(config.cors.allowed_origins)
        self._any_host = not config.allowed_hosts and not loopback_only
        public = [] if config.public_url is None else [urlsplit(config.public_url).hostname or ""]
        self._hosts = frozenset(name.lower() for name in (*config.allowed_hosts, *public))
        self._allows_host = lru_cache(KEPT_HOSTS)(self._allows)

    def check(self, headers: Mapping[str, str], scheme: str) -> None:
        """`headers` by lowercase names. Raises `InvalidRequest` for a Host that is none, else `PermissionDenied`."""
        host = headers.get("host", "")
        if self._forwarded:
            host = headers.get("x-forwarded-host") or host
            scheme = headers.get("x-forwarded-proto") or scheme
        if not self._allows_host(host):
            raise PermissionDenied("This server does not answer to that name; see server.allowed_hosts.")
        origin = headers.get("origin")
        if origin is not None and not self._allows_origin(origin.lower(), host.lower(), scheme):
            raise PermissionDenied("Pages of other origins may not call this server; see server.cors.allowed_origins.")

    def _allows(self, host: str) -> bool:
        match = HOST.fullmatch(host)
        if match is None:
            raise InvalidRequest("The Host header is not a host.")
        name = match["name"].lower().rstrip(".")
        return self._any_host or is_loopback_name(name) or is_address(name) or name in self._hosts

    def _allows_origin(self, origin: str, host: str, scheme: str) -> bool:
        """A proxy that ends TLS shows us plain HTTP for a page of HTTPS; the other way round is another origin."""
        if origin in (self._public_origin, f"https://{host}") or origin in self._origins:
            return True
        return origin == f"http://{host}" and scheme in ("http", "ws")


def is_loopback_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
