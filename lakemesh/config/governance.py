"""Who may call, how often, and how much at once."""

from pydantic import Field

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


class AuthConfig(Section):
    """`tokens` empty and not on Databricks Apps: every local caller is the user `local`."""

    tokens: list[AccessToken] = []
