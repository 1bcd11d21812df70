"""Who calls, as far as the platform vouches for it."""

import hashlib
from collections.abc import Mapping

from lakemesh.config.governance import AuthConfig
from lakemesh.errors import Unauthenticated
from lakemesh.schemas import Identity

LOCAL = Identity(user="local", kind="user")


class Authenticator:
    """Turns a request's headers (lowercase names) into an `Identity`.

    Three situations, and nothing a caller sends can move the server from one to another:

    - On Databricks Apps the platform's proxy signs callers in and sets `X-Forwarded-Email`, `-User` and
      `-Access-Token` itself; only there are they believed (Databricks Apps documentation, HTTP headers).
    - Elsewhere, with tokens configured, a bearer token whose SHA-256 is listed names the caller.
    - Elsewhere, with none configured, the server is a laptop and the caller is `local`.
    """

    def __init__(self, config: AuthConfig, *, behind_platform_proxy: bool) -> None:
        self._behind_proxy = behind_platform_proxy
        self.configure(config)

    def configure(self, config: AuthConfig) -> None:
        """Take new tokens while running; revoked ones stop working with the next request."""
        self._tokens = {
            token.sha256: Identity(user=token.user, kind="service", groups=frozenset(token.groups))
            for token in config.tokens
        }

    @property
    def behind_platform_proxy(self) -> bool:
        """Whether Databricks Apps' own proxy stands before the server, and its headers are believed."""
        return self._behind_proxy

    @property
    def requires_token(self) -> bool:
        """Whether callers must bring a bearer token of the configuration."""
        return not self._behind_proxy and bool(self._tokens)

    @property
    def trusts_anybody(self) -> bool:
        """Whether every caller is the laptop's own user."""
        return not self._behind_proxy and not self._tokens

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """The caller's identity. Raises `Unauthenticated` when nothing vouches for one."""
        if self._behind_proxy:
            return self._from_proxy(headers)
        if self._tokens:
            return self._from_bearer(headers.get("authorization", ""))
        return LOCAL

    def _from_proxy(self, headers: Mapping[str, str]) -> Identity:
        user = headers.get("x-forwarded-user") or headers.get("x-forwarded-email")
        if not user:
            raise Unauthenticated("The platform's proxy vouched for nobody; call the app through its own URL.")
        return Identity(
            user=user,
            email=headers.get("x-forwarded-email"),
            token=headers.get("x-forwarded-access-token"),
        )

    def _from_bearer(self, authorization: str) -> Identity:
        scheme, _, token = authorization.partition(" ")
        # Looking up a digest instead of comparing tokens leaves nothing to learn from the time it takes.
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        identity = self._tokens.get(digest) if scheme.lower() == "bearer" else None
        if identity is None:
            raise Unauthenticated("Send one of the configured tokens as 'Authorization: Bearer <token>'.")
        return identity
