"""Who approves of what policies and agents want a person to approve, and how they are told."""

from pydantic import Field, SecretStr

from lakemesh.config.base import Section
from lakemesh.config.policies import ApproversConfig


class ApprovalWebhookConfig(Section):
    """Where a message goes for each thing that is to be approved, in the shape of Slack's incoming webhooks. It is
    signed as Slack signs, and so is what comes back to `/api/approvals/callback` when somebody presses a button."""

    url: str = Field(pattern=r"^https?://", description="an incoming webhook, or any server that takes its shape")
    secret: SecretStr = Field(min_length=16, description="signs both ways; give it as ${secrets.scope.key}")
    users: dict[str, str] = Field(
        default={}, description="by the id a user has there, the user's name here; others cannot decide there"
    )
    to_private: bool = Field(default=False, description="the URL may be of a private network or of this machine")


class ApprovalsConfig(Section):
    """What rules and agents do not say themselves."""

    approvers: ApproversConfig = Field(default=ApproversConfig(), description="empty: the operators of the server")
    four_eyes: bool = Field(default=True, description="who asked may refuse, and may not approve")
    timeout_seconds: float = Field(default=86_400.0, gt=0, le=2_592_000, description="after which it is refused")
    webhook: ApprovalWebhookConfig | None = None

    @property
    def names_groups(self) -> bool:
        return bool(self.approvers.groups)
