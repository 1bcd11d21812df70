"""Agents of the OpenAI Agents SDK (`pip install 'lakemesh[openai-agents]'`).

Its runner works as it does elsewhere: tools, handoffs and guardrails are the SDK's own. Models named in text are
routes, sessions are lakemesh's, and nothing is sent to OpenAI's tracing. A tool's `ctx.context` is the `AgentContext`.
"""

import json
from collections.abc import Mapping
from typing import Any

from lakemesh.agents.base import AgentContext
from lakemesh.agents.frameworks.base import FrameworkAgent, OwnTools, ServerTool, Turn, server_tools
from lakemesh.agents.frameworks.chat_client import chat_client
from lakemesh.agents.tool_agent import ChatMessage
from lakemesh.schemas import AgentInput, TextDelta


class OpenAIAgent(FrameworkAgent):
    """Answers a message by an agent of the OpenAI Agents SDK."""

    def output_type(self) -> Any:
        return self.agent.output_type

    def begins(self, message: Mapping[str, Any]) -> bool:
        return message.get("role") == "user"

    async def run(self, request: AgentInput[ChatMessage], context: AgentContext, turn: Turn) -> Any:
        from agents import Runner

        tools = server_tools(context, self.options.tools)
        agent = self.agent.clone(tools=[*self.agent.tools, *map(function_tool, tools)]) if tools else self.agent
        running = Runner.run_streamed(
            agent,
            request.data.message,
            context=context,
            session=TurnSession(turn, request.session_id or context.scope.execution_id),
            run_config=run_config(context, self.options.route),
            hooks=hooks_of(OwnTools(context, tools)),
        )
        async for event in running.stream_events():
            data: Any = getattr(event, "data", None)
            if getattr(data, "type", "") == "response.output_text.delta":
                context.emit(TextDelta(text=data.delta))
        return running.final_output


def function_tool(tool: ServerTool) -> Any:
    from agents import FunctionTool

    async def invoke(_: Any, arguments: str) -> Any:
        return await tool.use(json.loads(arguments or "{}"))

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=dict(tool.parameters),
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )


def run_config(context: AgentContext, route: str | None) -> Any:
    from agents import ModelProvider, OpenAIChatCompletionsModel, RunConfig

    if route is None:
        return RunConfig(tracing_disabled=True)
    client = chat_client(context.models, route=route)

    class Routes(ModelProvider):  # type: ignore[misc]  # the SDK is not there when types are checked
        def get_model(self, model_name: str | None) -> Any:
            return OpenAIChatCompletionsModel(model=model_name or route, openai_client=client)

    return RunConfig(model_provider=Routes(), tracing_disabled=True)


def hooks_of(own: OwnTools) -> Any:
    from agents import RunHooks

    class Hooks(RunHooks):  # type: ignore[misc]
        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            raw = getattr(context, "tool_arguments", None) or "{}"
            own.began(getattr(context, "tool_call_id", tool.name), tool.name, arguments_of(raw))

        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            own.ended(getattr(context, "tool_call_id", tool.name), tool.name)

    return Hooks()


def arguments_of(raw: str) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class TurnSession:
    """The SDK's `Session` over one turn: what it adds is kept when the turn has ended well."""

    session_settings = None

    def __init__(self, turn: Turn, session_id: str) -> None:
        self.session_id = session_id
        self._turn = turn

    async def get_items(self, limit: int | None = None) -> list[Any]:
        items = [*self._turn.earlier, *self._turn.added]
        return items if limit is None else items[-limit:] if limit else []

    async def add_items(self, items: list[Any]) -> None:
        self._turn.added.extend(items)

    async def pop_item(self) -> Any:
        return self._turn.added.pop() if self._turn.added else None

    async def clear_session(self) -> None:
        self._turn.added.clear()
