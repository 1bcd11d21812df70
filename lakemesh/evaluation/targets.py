"""What is evaluated: an agent behind the HTTP door of a running server, or in an engine in this process."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from lakemesh.errors import LakemeshError
from lakemesh.evaluation.observation import Observation

if TYPE_CHECKING:
    import httpx

    from lakemesh.engine.router import AgentRouter


class Target(Protocol):
    async def ask(self, agent: str, inputs: Mapping[str, Any], *, timeout_seconds: float) -> Observation:
        """Raises nothing for what the agent does wrong: that is an observation. Raises `Unavailable` when there is
        nobody to ask."""
        ...


class ServerTarget:
    """The REST door of a server."""

    def __init__(self, client: "httpx.AsyncClient") -> None:
        self._client = client

    async def ask(self, agent: str, inputs: Mapping[str, Any], *, timeout_seconds: float) -> Observation:
        import httpx

        headers = {"X-Request-Timeout": str(timeout_seconds)}
        body = {"agent_name": agent, "data": inputs}
        started = time.perf_counter()
        try:
            answer = await self._client.post(
                "/api/execute", json=body, headers=headers, timeout=httpx.Timeout(timeout_seconds + 5)
            )
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            elapsed = elapsed_ms(started)
            return Observation(error=f"unavailable: {str(error) or type(error).__name__}", latency_ms=elapsed)
        if not isinstance(content, dict) or answer.is_error:
            problem = content if isinstance(content, dict) else {}
            sentence = f"{problem.get('code', answer.status_code)}: {problem.get('detail', answer.reason_phrase)}"
            return Observation(error=sentence, latency_ms=elapsed_ms(started))
        return observed(content, elapsed_ms(started))


class EngineTarget:
    """An engine in this process, by the same router that every door asks."""

    def __init__(self, router: "AgentRouter") -> None:
        self._router = router

    async def ask(self, agent: str, inputs: Mapping[str, Any], *, timeout_seconds: float) -> Observation:
        from pydantic_core import to_jsonable_python

        from lakemesh.governance.identity import LOCAL
        from lakemesh.schemas import AgentInput

        request: AgentInput[Any] = AgentInput(agent_name=agent, data=dict(inputs), timeout_seconds=timeout_seconds)
        started = time.perf_counter()
        try:
            output = await self._router.execute(request, identity=LOCAL, door="cli")
        except LakemeshError as error:
            return Observation(error=f"{error.code}: {error.detail}", latency_ms=elapsed_ms(started))
        return observed(to_jsonable_python(output.to_dict()), elapsed_ms(started))


def observed(answer: Mapping[str, Any], latency_ms: float) -> Observation:
    return Observation(
        result=answer.get("result"),
        confidence=answer.get("confidence"),
        metadata=answer.get("metadata") or {},
        latency_ms=latency_ms,
    )


def elapsed_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
