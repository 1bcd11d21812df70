"""JSON Web Tokens (RFC 7519) of configured issuers, checked against keys that the issuers publish (RFC 7517).

PyJWT does the cryptography; the keys are fetched here, since they come from elsewhere: bounded in bytes and seconds,
kept, renewed when an unknown key is named (rotation), and used on while the issuer is unavailable.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from lakemesh.config.governance import JwtConfig
from lakemesh.errors import PermissionDenied, Unauthenticated, Unavailable
from lakemesh.schemas import Identity

if TYPE_CHECKING:
    from jwt import PyJWK

logger = structlog.get_logger(__name__)

FETCH_SECONDS = 5.0
FETCH_AGAIN_SECONDS = 10.0
"""The least time between two fetches, so that made-up key ids do not become requests to the issuer."""
MAX_JWKS_BYTES = 256 * 1024
MAX_KEYS = 100


class JsonWebTokens:
    """The issuers, by the claim `iss`. False when there is none."""

    def __init__(self, configs: Sequence[JwtConfig], known: Mapping[str, "Issuer"] | None = None) -> None:
        before = known or {}
        self._issuers = {
            config.issuer: kept
            if (kept := before.get(config.issuer)) is not None and kept.config == config
            else Issuer(config)
            for config in configs
        }

    def __bool__(self) -> bool:
        return bool(self._issuers)

    def reconfigured(self, configs: Sequence[JwtConfig]) -> "JsonWebTokens":
        """These issuers; one that did not change keeps its keys."""
        return JsonWebTokens(configs, self._issuers)

    async def identify(self, token: str) -> Identity | None:
        """Whom the token names; None for what is no token of a configured issuer. Raises `Unauthenticated` for a bad
        one, `PermissionDenied` for one without the scopes, and `Unavailable` while the issuer's keys cannot be had."""
        import jwt

        try:
            unverified = jwt.decode_complete(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return None
        issuer = self._issuers.get(str(unverified["payload"].get("iss")))
        return None if issuer is None else await issuer.identify(token, unverified["header"])

    async def close(self) -> None:
        for issuer in self._issuers.values():
            issuer.close()


class Issuer:
    """One issuer: its rules and its keys."""

    def __init__(self, config: JwtConfig) -> None:
        self.config = config
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = -1e9
        self._tried_at = -1e9
        self._fetching: asyncio.Task[None] | None = None

    async def identify(self, token: str, header: Mapping[str, Any]) -> Identity:
        import jwt

        config = self.config
        if header.get("alg") not in config.algorithms:
            raise Unauthenticated("The token is signed with an algorithm that is not accepted here.")
        key = await self._key(header.get("kid"))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(config.algorithms),
                audience=config.audiences,
                issuer=config.issuer,
                leeway=config.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired; get a new one.") from None
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The token is not accepted: {error}") from None
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        config = self.config
        user = claim_of(claims, config.user_claim)
        if not isinstance(user, str) or not user:
            raise Unauthenticated(f"The token names no user in its claim {config.user_claim!r}.")
        scopes = names_in(claim_of(claims, config.scopes_claim))
        missing = sorted(set(config.required_scopes) - scopes)
        if missing:
            raise PermissionDenied(f"The token lacks the scopes {', '.join(missing)}.")
        email = claims.get("email")
        return Identity(
            user=user,
            email=email if isinstance(email, str) else None,
            groups=names_in(claim_of(claims, config.groups_claim)),
            scopes=scopes,
        )

    async def _key(self, key_id: Any) -> "PyJWK":
        """The key of this id, or the only one there is for a token that names none."""
        now = time.monotonic()
        stale = now - self._fetched_at > self.config.keys_seconds
        found = self._find(key_id)
        if (found is None or stale) and now - self._tried_at > FETCH_AGAIN_SECONDS:
            self._fetching = asyncio.ensure_future(self._fetch())
            self._tried_at = now
        if found is None and self._fetching is not None:
            await asyncio.shield(self._fetching)
            found = self._find(key_id)
        if found is None:
            if not self._keys:
                raise Unavailable("The issuer's keys cannot be read now; try again.", retry_after_seconds=5.0)
            raise Unauthenticated("The token is signed with a key that its issuer does not publish.")
        return found

    def _find(self, key_id: Any) -> "PyJWK | None":
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(str(key_id))

    async def _fetch(self) -> None:
        """Read the keys again; those known stay when that fails."""
        import httpx
        from jwt import PyJWK, PyJWKSet
        from jwt.exceptions import PyJWTError

        try:
            async with asyncio.timeout(FETCH_SECONDS), httpx.AsyncClient(timeout=FETCH_SECONDS) as client:
                body = await read_bounded(client, self.config.jwks_url)
            keys: list[PyJWK] = PyJWKSet.from_json(body.decode()).keys[:MAX_KEYS]
        except (httpx.HTTPError, PyJWTError, TimeoutError, ValueError, AttributeError, TypeError) as error:
            logger.warning("keys of the issuer not read", issuer=self.config.issuer, reason=type(error).__name__)
            return
        usable = [key for key in keys if key.public_key_use in (None, "sig") and not is_symmetric(key)]
        self._keys = {str(key.key_id): key for key in usable}
        self._fetched_at = time.monotonic()

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()


async def read_bounded(client: Any, url: str) -> bytes:
    """The body at `url`, without redirects. Raises `httpx.HTTPError`, or `ValueError` over `MAX_JWKS_BYTES`."""
    body = b""
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_JWKS_BYTES:
                raise ValueError("the keys are too large")
    return body


def is_symmetric(key: "PyJWK") -> bool:
    return bool(key.key_type == "oct")


def claim_of(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this very name, or along the dots of it."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def names_in(value: Any) -> frozenset[str]:
    """A list of names, or names with blanks between them (RFC 8693, section 4.2)."""
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
