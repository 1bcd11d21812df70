"""Who may call, how often, and how much at once."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lakemesh.config.base import Section


class RateLimitConfig(Section):
    """Requests per minute, per identity. None means no limit."""

    per_user_per_minute: int | None = Field(default=None, ge=1)


class LimitsConfig(Section):
    max_concurrency: int = Field(default=64, ge=1)
    max_queue: int = Field(default=256, ge=0)
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    max_answer_bytes: int = Field(default=32 * 1024 * 1024, ge=1024, description="one answer, as JSON")
    max_unread_bytes: int = Field(
        default=256 * 1024 * 1024, ge=1024, description="all answers that wait for their readers at one time"
    )
    max_batch: int = Field(default=1_000, ge=1)
    max_timeout_seconds: float = Field(default=300.0, gt=0)
    rate: RateLimitConfig = RateLimitConfig()


class AccessToken(Section):
    """A bearer token for servers outside Databricks Apps, kept only as its SHA-256 (lowercase hex)."""

    user: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    groups: list[str] = []


JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class JwtConfig(Section):
    """One issuer of JSON Web Tokens (RFC 7519) and how its tokens are judged. Claims may be dotted paths, such as
    `realm_access.roles`."""

    issuer: str = Field(description="the claim iss, exactly")
    audiences: list[str] = Field(min_length=1, description="one of which the claim aud names")
    jwks_url: str = Field(
        pattern=r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])", description="where its keys are (RFC 7517)"
    )
    algorithms: list[JwtAlgorithm] = Field(default=["RS256", "ES256"], min_length=1)
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="how far its clock may be off")
    keys_seconds: float = Field(
        default=3_600.0, gt=0, description="how long its keys are kept; unknown ones are asked for"
    )
    user_claim: str = "sub"
    groups_claim: str = "groups"
    scopes_claim: str = "scope"
    required_scopes: list[str] = Field(default=[], description="all of which a token must have")


class AuthConfig(Section):
    """`tokens` and `jwt` empty and not on Databricks Apps: every local caller is the user `local`."""

    tokens: list[AccessToken] = []
    jwt: list[JwtConfig] = []

    @model_validator(mode="after")
    def _issuers_differ(self) -> Self:
        issuers = [one.issuer for one in self.jwt]
        if len(issuers) != len(set(issuers)):
            raise ValueError("an issuer is given twice in 'jwt'")
        return self
