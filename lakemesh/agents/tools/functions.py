"""Python functions as agents: what a signature and a docstring say is enough."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from lakemesh.agents.base import AgentContext, AgentServices, NoOptions, Tool
from lakemesh.schemas import AgentInput, AgentOutput
from lakemesh.threads import Threads

MAX_THREADS = 16
"""How many calls of one function run at once, those included whose callers have left."""
NAMED = re.compile(r"^\s*(?::param )?(\w+):\s+(.+)$", re.MULTILINE)
UNSUPPORTED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


class FunctionTool(Tool[BaseModel, Any]):
    """Calls a function with the request's data as its arguments. A coroutine function is awaited; another runs in a
    worker thread. A parameter annotated `AgentContext` is given the context, and is no part of the input."""

    def __init__(self, name: str, function: Callable[..., Any], services: AgentServices) -> None:
        super().__init__(name, NoOptions(), services)
        self._function = function
        self._threads = Threads(MAX_THREADS)
        hints = get_type_hints(function, include_extras=True)
        self._context_parameter = next((key for key, hint in hints.items() if hint is AgentContext), None)
        self._result = TypeAdapter(hints.get("return", Any))
        # Agents say what they take by class; this one has a class of arguments for each function.
        self.input_model = model_of(name, function, hints)  # type: ignore[misc]
        self.description = inspect.getdoc(function) or name

    async def process(self, request: AgentInput[BaseModel], context: AgentContext) -> AgentOutput[Any]:
        arguments = {key: getattr(request.data, key) for key in type(request.data).model_fields}
        if self._context_parameter is not None:
            arguments[self._context_parameter] = context
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**arguments)
        else:
            result = await self._threads.run(self.name, lambda: self._function(**arguments))
        return AgentOutput(agent_name=self.name, result=self._result.dump_python(result, mode="json"))


def load_function(path: str) -> Callable[..., Any]:
    """The function at `package.module:function`. Raises `ImportError`, `AttributeError` or `TypeError`."""
    module_name, _, function_name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
    if not inspect.isroutine(function):
        raise TypeError("it is not a function")
    return function


def model_of(name: str, function: Callable[..., Any], hints: Mapping[str, Any]) -> type[BaseModel]:
    """The function's parameters as a model; what the docstring says of one (`name: what it is`) is its description.
    Raises `TypeError` for parameters that have no name."""
    said = dict(NAMED.findall(inspect.getdoc(function) or ""))
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in UNSUPPORTED:
            raise TypeError(f"its parameter {key!r} cannot be given by name")
        if hints.get(key) is AgentContext:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[key] = (hints.get(key, Any), Field(default, description=said.get(key)))
    return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
