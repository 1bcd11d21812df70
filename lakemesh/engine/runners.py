"""Where an agent's work runs: on the event loop, in a thread, or in a worker process."""

import os
from typing import Any, Literal

import anyio
from anyio import to_process

from lakemesh.agents.base import Agent, AgentContext, ComputeAgent
from lakemesh.config.agents import AgentConfig
from lakemesh.errors import AgentFailed, ConfigurationInvalid
from lakemesh.schemas import AgentInput, AgentOutput
from lakemesh.threads import Threads


class Runners:
    """Runs one agent as its configuration says: in at most `max_workers` threads an agent, and in as many processes for
    all.

    When a deadline passes, a worker process is killed, and only that one. A thread cannot be stopped: it is left
    behind, and its agent has one thread less until it ends, so long computations belong in `process_pool`.
    """

    def __init__(self, *, max_workers: int | None = None) -> None:
        workers = max_workers or os.cpu_count() or 1
        self._threads = Threads(workers)
        self._processes = anyio.CapacityLimiter(workers)

    async def run(
        self, agent: Agent[Any, Any], config: AgentConfig, request: AgentInput[Any], context: AgentContext
    ) -> AgentOutput[Any]:
        if not isinstance(agent, ComputeAgent):
            return await agent.process(request, context)
        result = await self._compute(agent, config, request.data)
        return AgentOutput(agent_name=request.agent_name, result=result)

    async def _compute(self, agent: ComputeAgent[Any, Any], config: AgentConfig, data: Any) -> Any:
        execution = execution_of(agent, config)
        if execution == "inline":
            return agent.compute(data, agent.options)
        if execution == "thread":
            return await self._threads.run(agent.name, agent.compute, data, agent.options)
        try:
            return await to_process.run_sync(
                type(agent).compute, data, agent.options, cancellable=True, limiter=self._processes
            )
        except anyio.BrokenWorkerProcess:
            raise AgentFailed(f"The process that computed {agent.name!r} died.") from None


def execution_of(agent: Agent[Any, Any], config: AgentConfig) -> Literal["inline", "thread", "process_pool"]:
    """Where it runs: what configuration says; else computations in a thread, since they may take long, and other
    agents on the event loop."""
    return config.execution or ("thread" if isinstance(agent, ComputeAgent) else "inline")


def check_execution(name: str, agent: Agent[Any, Any], config: AgentConfig) -> None:
    """Raises `ConfigurationInvalid` when the agent cannot run the way it is configured."""
    if execution_of(agent, config) != "inline" and not isinstance(agent, ComputeAgent):
        raise ConfigurationInvalid(
            [f"agents.{name}.execution: {config.execution!r} needs a ComputeAgent; {name!r} is not one"]
        )
