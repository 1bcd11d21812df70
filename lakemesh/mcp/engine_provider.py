"""What the MCP door offers: agents as tools, prompts as prompts, prompts and configuration as resources."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from lakemesh.config.store import ConfigStore
from lakemesh.engine.router import AgentRouter
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound, UnknownAgent, ValidationFailed
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.mcp.answers import content_of, failure, success, tool_of
from lakemesh.mcp.changes import Change, Changes
from lakemesh.mcp.engine_resources import CONFIG_URI, EngineResources
from lakemesh.mcp.exchange import Exchange
from lakemesh.mcp.held_calls import Held, HeldCalls, elicitation
from lakemesh.mcp.messages import INVALID_PARAMS, ProtocolError
from lakemesh.mcp.provider import Described
from lakemesh.prompts import PromptStore
from lakemesh.schemas import AgentInput, ArtifactPart, Asked, Completed, Event, Failed, Identity

logger = structlog.get_logger(__name__)


class EngineProvider:
    """Reads the engine and the prompt store at every call, so that what changes while the server runs is seen."""

    instructions = "Each tool is an agent of this server. Prompts and their versions are resources too."

    def __init__(self, *, router: AgentRouter, prompts: PromptStore, config: ConfigStore, workspace: Workspace) -> None:
        self._router = router
        self._prompts = prompts
        self._resources = EngineResources(registry=router.registry, prompts=prompts, config=config, workspace=workspace)
        self.changes = Changes()
        self._held = HeldCalls()
        config.subscribe(lambda new: self.changes.tell(Change("tools"), Change("resource", CONFIG_URI)))
        prompts.subscribe(lambda: self.changes.tell(Change("prompts"), Change("resources")))

    def note_request(self, identity: Identity) -> None:
        self._router.note_request(identity)

    async def tools(self, identity: Identity) -> Sequence[Described]:
        registry = self._router.registry
        return [tool_of(each, registry.get(each.name).config.tool) for each in registry.visible_to(identity, "mcp")]

    async def tool_schema(self, name: str, identity: Identity) -> Mapping[str, Any]:
        try:
            return self._router.registry.get_for(name, identity, "mcp").description.input_schema
        except LakemeshError:
            return {}

    async def call_tool(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> Described:
        """Run the agent; its progress is the tool's."""
        request = AgentInput(agent_name=name, data=arguments, session_id=exchange.session_id)
        held = self._held.take(exchange)
        made: list[Described] = held.made if held is not None else []
        asking: set[asyncio.Task[None]] = set()
        events = held.events if held is not None else self._stream(request, exchange)
        if held is not None:
            self._answer(held.question, exchange.answers[held.question.question_id], exchange)
        try:
            async for event in events:
                exchange.on_event(event)
                if isinstance(event, ArtifactPart):
                    made.append(content_of(event))
                elif isinstance(event, Asked) and not exchange.can_ask("elicitation"):
                    self._answer(event, None, exchange)
                elif isinstance(event, Asked) and exchange.call.modern:
                    self._held.hold(Held(events, made, event), exchange)
                elif isinstance(event, Asked):
                    asking.add(asyncio.create_task(self._ask(event, exchange)))
                elif isinstance(event, Completed):
                    return success(event.output, made)
                elif isinstance(event, Failed):
                    return failure(event.error)
        except UnknownAgent as error:
            raise ProtocolError(INVALID_PARAMS, error.detail) from None
        except LakemeshError as error:
            return failure(error.to_problem())
        finally:
            for task in asking:
                task.cancel()
            if events not in self._held:
                await events.aclose()
        return failure({"detail": "The agent ended without an answer."})

    def _stream(self, request: AgentInput[Any], exchange: Exchange) -> AsyncGenerator[Event]:
        return self._router.stream(request, identity=exchange.identity, door="mcp", parent=exchange.parent)

    async def _ask(self, question: Asked, exchange: Exchange) -> None:
        """Ask a client of the handshake revisions; who cannot be asked has declined."""
        try:
            answers = await exchange.ask(question=("elicitation/create", elicitation(question)))
        except ProtocolError as error:
            logger.info("mcp client not asked", reason=error.detail)
            answers = {"question": None}
        self._answer(question, answers["question"], exchange)

    def _answer(self, question: Asked, answer: Any, exchange: Exchange) -> None:
        accepted = isinstance(answer, dict) and answer.get("action") == "accept"
        value = answer.get("content") or {} if accepted else None
        with suppress(NotFound):  # its time is over, or the agent's
            try:
                self._router.answer(question.execution_id, question.question_id, value, exchange.identity)
            except ValidationFailed as error:
                logger.info("mcp client's answer does not fit", reason=error.detail)
                self._router.answer(question.execution_id, question.question_id, None, exchange.identity)

    async def prompts(self, identity: Identity) -> Sequence[Described]:
        found = []
        for name in self._prompts.list_versions():
            try:
                prompt = self._prompts.get(name)
            except LakemeshError as error:
                logger.warning("prompt not listed", prompt=name, reason=error.detail)
                continue
            arguments = [{"name": variable, "required": True} for variable in sorted(prompt.variables)]
            description = prompt.matter.description or f"The prompt {name}, version {prompt.version}"
            found.append({"name": name, "description": description, "arguments": arguments})
        return found

    async def prompt(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> Described:
        try:
            rendered = self._prompts.render(name, arguments)
        except (NotFound, InvalidRequest) as error:
            raise ProtocolError(INVALID_PARAMS, error.detail) from None
        message = {"role": "user", "content": {"type": "text", "text": rendered.text}}
        return {"description": f"{name}, version {rendered.version}", "messages": [message]}

    async def resources(self, identity: Identity) -> Sequence[Described]:
        return self._resources.listed(identity)

    async def resource_templates(self, identity: Identity) -> Sequence[Described]:
        return self._resources.templates()

    async def resource(self, uri: str, exchange: Exchange) -> Described:
        return await self._resources.read(uri, exchange.identity)

    async def complete(
        self, reference: Mapping[str, Any], argument: Mapping[str, Any], identity: Identity
    ) -> Sequence[str]:
        """For the resource templates; what a prompt's variables may be cannot be guessed."""
        if reference.get("type") != "ref/resource":
            return []
        template, name, start = reference.get("uri", ""), argument.get("name", ""), argument.get("value", "")
        return await self._resources.complete(str(template), str(name), str(start), identity)
