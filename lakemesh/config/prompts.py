"""Where prompts live and which version is served."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lakemesh.config.base import Section

Version = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PromptSelection(Section):
    """How one prompt's version is chosen. `split` maps version numbers to weights for an A/B test and wins over
    `version`, which wins over `alias`; with none of them the latest version is served. To roll back, change the
    number behind the alias (`prompts.selections.<name>.aliases.champion`); files never change."""

    version: Version | None = None
    aliases: dict[str, Version] = {}
    alias: str | None = None
    split: dict[Version, Weight] = {}

    def served(self) -> list[Version]:
        """The versions that this selection serves; none when it serves the latest."""
        if self.split:
            return [version for version, weight in self.split.items() if weight]
        if self.version is not None:
            return [self.version]
        return [] if self.alias is None else [self.aliases[self.alias]]

    @model_validator(mode="after")
    def _can_be_chosen(self) -> Self:
        if self.alias is not None and self.alias not in self.aliases:
            raise ValueError(f"alias {self.alias!r} is not among the aliases")
        if self.split and sum(self.split.values()) == 0:
            raise ValueError("a split needs a weight above zero")
        return self


class PromptsConfig(Section):
    volume: str = Field(default="/Volumes/main/agents/prompts", pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+")
    refresh_seconds: float = Field(default=60.0, gt=0)
    selections: dict[str, PromptSelection] = {}
