"""What a caller is told of the way a run failed."""

from collections.abc import Iterator
from types import TracebackType

import structlog

from lakemesh.agents.base import Agent, Tool
from lakemesh.engine.drive import DeadlinePassed
from lakemesh.errors import (
    AgentFailed,
    CallerError,
    ConfigurationInvalid,
    DeadlineExceeded,
    InputRequired,
    LakemeshError,
    PolicyRefusal,
)
from lakemesh.scope import ExecutionScope

logger = structlog.get_logger(__name__)

NESTED_CALLS = "lakemesh.engine.router"
GIVEN_TO_AGENTS = ("lakemesh.prompts.", "lakemesh.models.", "lakemesh.memory.")
"""Rooms an agent asks for things: what they refuse is what the agent asked, not what its caller sent."""


def designed_error(error: BaseException, agent: Agent, scope: ExecutionScope) -> LakemeshError:
    """The error to answer with. What an agent says to its caller passes; faults of the agent's own are `AgentFailed`,
    and their cause is in the log alone."""
    if isinstance(error, DeadlinePassed):
        if error.blocked:
            logger.error("agent blocked the event loop", agent=scope.agent_name, execution_id=scope.execution_id)
        return DeadlineExceeded(
            f"{scope.agent_name!r} had no answer in time; allow more with X-Request-Timeout or ask for less."
        )
    if isinstance(error, LakemeshError) and not is_agents_fault(error, agent):
        return error
    return agent_failed(scope, error)


def is_agents_fault(error: LakemeshError, agent: Agent) -> bool:
    """Whether an error that fits a caller's fault is the agent's: it came out of a call the agent made, or out of a
    prompt, model or memory it asked for. A tool does one thing with its caller's arguments, so what it is refused
    is its caller's to know."""
    if isinstance(error, ConfigurationInvalid):
        return True
    if not isinstance(error, CallerError) or isinstance(error, InputRequired | PolicyRefusal):
        return False  # what its caller did not answer, or may not have done, is for the caller, whoever asked
    modules = list(modules_of(error.__traceback__))
    if NESTED_CALLS in modules:
        return True
    return not isinstance(agent, Tool) and any(module.startswith(GIVEN_TO_AGENTS) for module in modules)


def modules_of(traceback: TracebackType | None) -> Iterator[str]:
    """The modules of the frames an exception passed."""
    while traceback is not None:
        yield traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next


def agent_failed(scope: ExecutionScope, error: BaseException) -> AgentFailed:
    logger.error("agent failed", agent=scope.agent_name, execution_id=scope.execution_id, exc_info=error)
    failed = AgentFailed(f"{scope.agent_name!r} failed; its operator finds execution {scope.execution_id} in the log.")
    failed.__cause__ = error
    return failed
