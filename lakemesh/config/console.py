"""The console's section of the configuration."""

from lakemesh.config.base import Section


class ConsoleConfig(Section):
    """The pages at `/`. They show what everybody's executions did, though not their content, so `operators` may
    name the users who see them; without it every caller of the server does."""

    enabled: bool = True
    operators: list[str] | None = None
