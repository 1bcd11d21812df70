"""Where prompts live and which version is served."""

from pydantic import Field

from lakemesh.config.base import Section


class PromptSelection(Section):
    """How one prompt's version is chosen. `split` maps version numbers to weights for an A/B test and wins over
    `version`, which wins over `alias`; with none of them the latest version is served."""

    version: int | None = Field(default=None, ge=1)
    aliases: dict[str, int] = {}
    alias: str | None = None
    split: dict[int, float] = {}


class PromptsConfig(Section):
    volume: str = Field(default="/Volumes/main/agents/prompts", pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+")
    refresh_seconds: float = Field(default=60.0, gt=0)
    selections: dict[str, PromptSelection] = {}
