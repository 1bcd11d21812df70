"""The A2A server, and the servers whose agents join ours."""

from pydantic import Field

from lakemesh.config.base import Section
from lakemesh.config.remotes import URL, RemoteServerConfig


class PeerConfig(RemoteServerConfig):
    """Another A2A server. Each of its skills is an agent here, `<peer>__<skill>`."""

    url: str = Field(pattern=URL, description="where its agent card is, without the path of it")


class A2aConfig(Section):
    """The A2A server at `/a2a`."""

    enabled: bool = True
    public_url: str | None = Field(default=None, description="what the agent card calls this server; else its Host")
    default_skill: str | None = Field(default=None, description="the agent of messages that name no skill")
    max_tasks: int = Field(default=10_000, ge=1, description="tasks kept, running ones included")
    max_task_megabytes: int = Field(default=256, ge=1, description="what ended tasks in memory may take")
    max_body_bytes: int = Field(default=2_000_000, ge=1_024, description="the largest message; files go by URL")
    task_ttl_seconds: float = Field(
        default=3_600.0, gt=0, description="how long an ended task can be read, without a database"
    )
    push_to_private: bool = Field(
        default=False, description="let push notifications go to addresses that are not public"
    )
    signing_key: str | None = Field(default=None, repr=False, description="PEM of an EC P-256 key that signs the cards")
    signing_key_id: str = Field(default="lakemesh", description="`kid` of the signatures")
    peers: dict[str, PeerConfig] = Field(default={}, description="A2A servers whose skills are agents here")
