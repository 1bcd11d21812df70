"""Where an agent's work runs: on the event loop, in a thread, or in a worker process."""

import os
from typing import Any

import anyio
from anyio import to_process, to_thread

from lakemesh.agents.base import Agent, AgentContext, ComputeAgent
from lakemesh.config.agents import AgentConfig
from lakemesh.errors import AgentFailed, ConfigurationInvalid
from lakemesh.schemas import AgentInput, AgentOutput


class Runners:
    """Runs one agent as its configuration says, at most `max_workers` computations of a kind at once.

    When a deadline passes, a worker process is killed, and only that one. A thread cannot be stopped: it is left
    behind and its slot stays taken until it ends, so long computations belong in `process_pool`.
    """

    def __init__(self, *, max_workers: int | None = None) -> None:
        self._max_workers = max_workers or os.cpu_count() or 1
        self._limiters: dict[str, anyio.CapacityLimiter] = {}

    def check(self, name: str, agent: Agent[Any, Any], config: AgentConfig) -> None:
        """Raises `ConfigurationInvalid` when the agent cannot run the way it is configured."""
        if config.execution != "inline" and not isinstance(agent, ComputeAgent):
            raise ConfigurationInvalid(
                [f"agents.{name}.execution: {config.execution!r} needs a ComputeAgent; {name!r} is not one"]
            )

    async def run(
        self, agent: Agent[Any, Any], config: AgentConfig, request: AgentInput[Any], context: AgentContext
    ) -> AgentOutput[Any]:
        if not isinstance(agent, ComputeAgent):
            return await agent.process(request, context)
        result = await self._compute(agent, config, request.data)
        return AgentOutput(agent_name=request.agent_name, result=result)

    async def _compute(self, agent: ComputeAgent[Any, Any], config: AgentConfig, data: Any) -> Any:
        if config.execution == "inline":
            return agent.compute(data, agent.options)
        limiter = self._limiter(config.execution)
        if config.execution == "thread":
            return await to_thread.run_sync(agent.compute, data, agent.options, abandon_on_cancel=True, limiter=limiter)
        try:
            return await to_process.run_sync(
                type(agent).compute, data, agent.options, cancellable=True, limiter=limiter
            )
        except anyio.BrokenWorkerProcess:
            raise AgentFailed(f"The process that computed {agent.name!r} died.") from None

    def _limiter(self, execution: str) -> anyio.CapacityLimiter:
        limiter = self._limiters.get(execution)
        if limiter is None:
            limiter = self._limiters[execution] = anyio.CapacityLimiter(self._max_workers)
        return limiter
