"""Agents of Pydantic AI (`pip install 'lakemesh[pydantic-ai]'`).

Tools, toolsets, output types and validators are its own. Its model is a route, its message history a session of
lakemesh's, and `ctx.deps` of a tool is the `AgentContext`.
"""

from collections.abc import AsyncIterable, Mapping
from typing import Any

from lakemesh.agents.base import AgentContext
from lakemesh.agents.frameworks.base import FrameworkAgent, OwnTools, ServerTool, Turn, server_tools
from lakemesh.agents.frameworks.chat_client import chat_client
from lakemesh.agents.tool_agent import ChatMessage
from lakemesh.schemas import AgentInput, TextDelta


class PydanticAgent(FrameworkAgent):
    """Answers a message by an agent of Pydantic AI."""

    def output_type(self) -> Any:
        return self.agent.output_type

    def begins(self, message: Mapping[str, Any]) -> bool:
        return any(part.get("part_kind") == "user-prompt" for part in message.get("parts") or ())

    async def run(self, request: AgentInput[ChatMessage], context: AgentContext, turn: Turn) -> Any:
        from pydantic_ai.messages import ModelMessagesTypeAdapter
        from pydantic_ai.toolsets import FunctionToolset

        tools = server_tools(context, self.options.tools)
        own = OwnTools(context, tools)

        async def listen(_: Any, events: AsyncIterable[Any]) -> None:
            async for event in events:
                tell(event, context, own)

        result = await self.agent.run(
            request.data.message,
            model=None if self.options.route is None else model_of(context, self.options.route),
            deps=context,
            message_history=ModelMessagesTypeAdapter.validate_python(turn.earlier),
            toolsets=[FunctionToolset([function_tool(tool) for tool in tools])] if tools else None,
            event_stream_handler=listen,
        )
        turn.added.extend(ModelMessagesTypeAdapter.dump_python(result.new_messages(), mode="json"))
        return result.output


def model_of(context: AgentContext, route: str) -> Any:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIChatModel(route, provider=OpenAIProvider(openai_client=chat_client(context.models, route=route)))


def function_tool(tool: ServerTool) -> Any:
    from pydantic_ai import Tool

    async def use(**arguments: Any) -> Any:
        return await tool.use(arguments)

    return Tool.from_schema(use, tool.name, tool.description, dict(tool.parameters))


def tell(event: Any, context: AgentContext, own: OwnTools) -> None:
    """What it does, as events of this server."""
    match getattr(event, "event_kind", ""):
        case "part_start" if event.part.part_kind == "text" and event.part.content:
            context.emit(TextDelta(text=event.part.content))
        case "part_delta" if event.delta.part_delta_kind == "text" and event.delta.content_delta:
            context.emit(TextDelta(text=event.delta.content_delta))
        case "function_tool_call":
            own.began(event.part.tool_call_id, event.part.tool_name, event.part.args_as_dict())
        case "function_tool_result":
            answered = event.part
            own.ended(answered.tool_call_id, answered.tool_name or "", is_error=answered.part_kind == "retry-prompt")
