"""Which agents the server runs, and how."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lakemesh.config.base import Section

Door = Literal["api", "mcp", "a2a"]
"""The doors of the network. The command line and jobs are not among them: who can run those owns the server."""


IMPORT_PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
CLASS = r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*|[a-z][a-z_]*)$"


class ToolHints(Section):
    """What MCP clients are told of an agent beside its schemas (specification 2026-07-28, `ToolAnnotations`): hints by
    which they choose what to ask their users about, and how they show it."""

    title: str | None = None
    read_only: bool | None = Field(default=None, description="it changes nothing")
    destructive: bool | None = Field(default=None, description="it may delete or overwrite")
    idempotent: bool | None = Field(default=None, description="the same call again changes nothing more")
    open_world: bool | None = Field(default=None, description="it reaches beyond the lakehouse")
    icon: str | None = Field(default=None, pattern=r"^(https://|data:image/)", description="URL of a picture")
    long_running: bool = Field(
        default=False, description="its calls are tasks, for clients that know them, where there is a database"
    )


class AgentConfig(Section):
    """One agent. `class` is an import path, `package.module:ClassName`, or the short name of a shipped one; `options`
    go to the class' own options model. Three lines are enough: the name, `class`, and what differs from the defaults. A
    Python function is an agent too: `function`, `package.module:function`, in place of `class`."""

    class_path: str | None = Field(default=None, alias="class", pattern=CLASS)
    function: str | None = Field(default=None, pattern=IMPORT_PATH)
    description: str | None = None
    options: dict[str, Any] = {}
    execution: Literal["inline", "thread", "process_pool"] | None = Field(
        default=None, description="where it runs; a ComputeAgent in a thread, any other agent on the event loop"
    )
    timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    start_timeout_seconds: float = Field(default=30.0, gt=0, le=3600, description="one try of its `start`")
    text_field: str | None = Field(
        default=None, min_length=1, description="which field of its input a message's text goes into, at /api/responses"
    )
    expose: list[Door] = ["api", "mcp"]
    allowed_groups: list[str] | None = None
    tool: ToolHints = ToolHints()
    on_behalf_of_user: bool = Field(default=False, description="data is read with the caller's rights, not the app's")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.class_path is None) == (self.function is None):
            raise ValueError("an agent has either 'class' or 'function'")
        return self
