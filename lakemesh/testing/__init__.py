"""For the tests of your agents: a server in one line, models that are scripted or recorded, tables, and what was done.

    from lakemesh.testing import ScriptedModel, calls, serve

    def test_helper() -> None:
        model = ScriptedModel(calls("add_days", day="2026-02-27"), "Tomorrow.")
        with serve("config", model=model) as server:
            answer = server.execute("helper", {"message": "When?"})
            assert server.execution(answer).called == ["add_days"]

`lakemesh.testing.plugin` brings the same as fixtures of pytest, by itself where lakemesh is installed. Nothing here is
imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakemesh.testing.executions import Execution, ModelCall, Span
    from lakemesh.testing.model_server import ChatRequest
    from lakemesh.testing.recorded import RecordedModel
    from lakemesh.testing.scripted import Calls, Fails, Reply, ScriptedModel, Stalls, calls
    from lakemesh.testing.serving import InProcess, RunningServer, in_process, serve
    from lakemesh.testing.tables import Rows, workspace_with

__all__ = [
    "Calls",
    "ChatRequest",
    "Execution",
    "Fails",
    "InProcess",
    "ModelCall",
    "RecordedModel",
    "Reply",
    "Rows",
    "RunningServer",
    "ScriptedModel",
    "Span",
    "Stalls",
    "calls",
    "in_process",
    "serve",
    "workspace_with",
]

_HOMES = {
    "executions": ("Execution", "ModelCall", "Span"),
    "model_server": ("ChatRequest",),
    "recorded": ("RecordedModel",),
    "scripted": ("Calls", "Fails", "Reply", "ScriptedModel", "Stalls", "calls"),
    "serving": ("InProcess", "RunningServer", "in_process", "serve"),
    "tables": ("Rows", "workspace_with"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
