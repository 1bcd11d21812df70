"""The console's section of the configuration."""

from lakemesh.config.base import Section


class ConsoleConfig(Section):
    """The pages at `/`. Everybody sees their own work there; `server.operators`, and the users in `operators`, see
    everybody's, with content and why it failed."""

    enabled: bool = True
    operators: list[str] = []
