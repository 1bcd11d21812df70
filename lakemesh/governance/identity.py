"""Who calls, as far as the platform vouches for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from lakemesh.config.change import Change, Replacement
from lakemesh.config.governance import AuthConfig
from lakemesh.errors import ConfigurationInvalid, Unauthenticated, Unavailable
from lakemesh.governance.groups import GroupLookup
from lakemesh.governance.json_web_tokens import JsonWebTokens
from lakemesh.schemas import Identity

MAX_TOKEN_CHARACTERS = 16_384
SEND_A_TOKEN = "Send a token that this server knows as 'Authorization: Bearer <token>'."  # noqa: S105
LOCAL = Identity(user="local", kind="user")


class Authenticator:
    """Turns a request's headers (lowercase names) into an `Identity`.

    Three situations, and nothing a caller sends can move the server from one to another:

    - On Databricks Apps the platform's proxy signs callers in and sets `X-Forwarded-Email`, `-User` and
      `-Access-Token` itself; only there are they believed (Databricks Apps documentation, HTTP headers). Groups come
      from the workspace.
    - Elsewhere, with tokens or issuers configured, a bearer token names the caller: one whose SHA-256 is listed, or a
      JSON Web Token of one of the issuers.
    - Elsewhere, with none configured, the server is a laptop and the caller is `local`.
    """

    def __init__(
        self,
        config: AuthConfig,
        *,
        behind_platform_proxy: bool,
        groups: GroupLookup | None = None,
        needs_groups: bool = False,
        listens_on_loopback: bool = True,
    ) -> None:
        self.listens_on_loopback = listens_on_loopback
        self._behind_proxy = behind_platform_proxy
        self._groups = groups
        self._needs_groups = needs_groups
        self._tokens = tokens_of(config)
        self._jwt = JsonWebTokens(config.jwt)

    async def prepare(self, config: AuthConfig, *, needs_groups: bool = False) -> Change:
        """New tokens and issuers; revoked ones stop working with the next request. Raises `ConfigurationInvalid` for
        a change that would open a running server to anybody."""
        if self.requires_token and not config.tokens and not config.jwt:
            raise ConfigurationInvalid(
                ["auth: the last way to authenticate cannot be removed while the server runs; restart it for that"]
            )

        def take() -> None:
            self._tokens = tokens_of(config)
            self._needs_groups = needs_groups
            self._jwt = self._jwt.reconfigured(config.jwt)

        return Replacement(take)

    async def close(self) -> None:
        await self._jwt.close()

    @property
    def behind_platform_proxy(self) -> bool:
        """Whether Databricks Apps' own proxy stands before the server, and its headers are believed."""
        return self._behind_proxy

    @property
    def requires_token(self) -> bool:
        """Whether callers must bring a bearer token."""
        return not self._behind_proxy and bool(self._tokens or self._jwt)

    @property
    def trusts_anybody(self) -> bool:
        """Whether every caller is the laptop's own user."""
        return not self._behind_proxy and not self._tokens and not self._jwt

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """The caller's identity. Raises `Unauthenticated` when nothing vouches for one."""
        if self._behind_proxy:
            return await self._with_groups(self._from_proxy(headers))
        if self._tokens or self._jwt:
            return await self._from_bearer(headers.get("authorization", ""))
        return LOCAL

    async def named(self, user: str) -> Identity:
        """A user for whom something else vouches than a request of theirs: another server's signed message."""
        known = next((one for one in self._tokens.values() if one.user == user), None)
        if known is not None:
            return known
        return await self._with_groups(Identity(user=user, email=user if "@" in user else None))

    def _from_proxy(self, headers: Mapping[str, str]) -> Identity:
        user = headers.get("x-forwarded-user") or headers.get("x-forwarded-email")
        if not user:
            raise Unauthenticated("The platform's proxy vouched for nobody; call the app through its own URL.")
        return Identity(
            user=user,
            email=headers.get("x-forwarded-email"),
            token=headers.get("x-forwarded-access-token"),
        )

    async def _with_groups(self, identity: Identity) -> Identity:
        """The platform names no groups; they are looked up where something depends on them."""
        if not self._needs_groups or self._groups is None:
            return identity
        try:
            return replace(identity, groups=await self._groups.groups_of(identity))
        except Unavailable:
            return replace(identity, groups_unknown=True)

    async def _from_bearer(self, authorization: str) -> Identity:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated(SEND_A_TOKEN)
        # Looking up a digest instead of comparing tokens leaves nothing to learn from the time it takes.
        identity = self._tokens.get(hashlib.sha256(token.strip().encode()).hexdigest())
        if identity is None and self._jwt:
            identity = await self._jwt.identify(token.strip())
        if identity is None:
            raise Unauthenticated(SEND_A_TOKEN)
        return identity


def tokens_of(config: AuthConfig) -> dict[str, Identity]:
    return {
        token.sha256: Identity(user=token.user, kind="service", groups=frozenset(token.groups))
        for token in config.tokens
    }
