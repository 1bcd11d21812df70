"""Which agents the server runs, and how."""

from typing import Any, Literal

from pydantic import Field

from lakemesh.config.base import Section

Door = Literal["api", "mcp", "a2a"]
"""The doors of the network. The command line and jobs are not among them: who can run those owns the server."""


class AgentConfig(Section):
    """One agent. `class` is an import path, `package.module:ClassName`; `options` go to the class' own options
    model. Three lines are enough: the name, `class`, and what differs from the defaults."""

    class_path: str = Field(alias="class", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    description: str | None = None
    options: dict[str, Any] = {}
    execution: Literal["inline", "thread", "process_pool"] = "inline"
    timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    expose: list[Door] = ["api", "mcp"]
    allowed_groups: list[str] | None = None
    on_behalf_of_user: bool = Field(default=False, description="data is read with the caller's rights, not the app's")
