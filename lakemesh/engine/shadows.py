"""Shadow runs: the candidate of a rollout answers the same request beside the agent that serves, for nobody."""

import asyncio
import copy
import random
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

import structlog
from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer, set_span_in_context
from pydantic_core import to_jsonable_python

from lakemesh.deadline import Deadline
from lakemesh.engine.registry import RegisteredAgent
from lakemesh.engine.run import Run
from lakemesh.engine.variants import Variants, outcome_of
from lakemesh.errors import LakemeshError
from lakemesh.rollout.criteria import is_failure
from lakemesh.schemas import AgentInput
from lakemesh.scope import ExecutionScope, Variation

logger = structlog.get_logger(__name__)

DOOR = "shadow"

NewRun = Callable[[RegisteredAgent, AgentInput[Any], ExecutionScope], Run]


class Shadows:
    """At most so many at once, each with a deadline of its own. What differs is a span, `compare_shadow`, and a count:
    nothing of it reaches the caller, and the caller waits for nothing of it."""

    def __init__(self, variants: Variants, *, new_run: NewRun, tracer: Tracer, meter: Meter) -> None:
        self._variants = variants
        self._new_run = new_run
        self._tracer = tracer
        self._counter = meter.create_counter(
            "lakemesh.rollout.shadows", "{run}", "Shadow runs, by how their answer compares"
        )
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, run: Run) -> "asyncio.Event | None":
        """Have the candidate answer the run's request too. The event is to be set when the run has ended."""
        variation = run.scope.variation
        assert variation is not None
        config = self._variants.rollouts.config
        if len(self._running) >= config.shadow_concurrency:
            self._count(variation, "left_out")
            return None
        candidate = self._variants.shadow_of(run.scope.agent_name)
        if candidate is None:
            return None
        scope = self._scope_of(run, variation, config.shadow_timeout_seconds)
        shadow = self._new_run(candidate, shadow_request(run.request, config.shadow_timeout_seconds), scope)
        ended = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._compare(run, shadow, variation, ended), context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return ended

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _scope_of(self, run: Run, variation: Variation, seconds: float) -> ExecutionScope:
        scope = run.scope
        return ExecutionScope(
            execution_id=f"{random.getrandbits(128):032x}",
            agent_name=scope.agent_name,
            identity=scope.identity,
            deadline=Deadline.after(seconds),
            session_id=scope.session_id,
            door=DOOR,
            variation=self._variants.rollouts.shadow_of(variation),
        )

    async def _compare(self, run: Run, shadow: Run, variation: Variation, ended: asyncio.Event) -> None:
        try:
            await shadow.execute()
        except LakemeshError:
            pass  # it is in `failure`, and in the shadow's own row
        except Exception:
            logger.exception("shadow run failed", agent=run.scope.agent_name)
        await ended.wait()
        alike = likeness(run.output.result, shadow.output.result) if run.output and shadow.output else None
        outcome = compared(alike, run.failure, shadow.failure)
        attributes: Mapping[str, Any] = {
            "lakemesh.rollout.name": variation.rollout,
            "lakemesh.rollout.outcome": outcome,
            "lakemesh.execution.id": run.scope.execution_id,
            "lakemesh.shadow.execution.id": shadow.scope.execution_id,
            "lakemesh.shadow.latency_ms": shadow.elapsed_ms(),
            "lakemesh.latency_ms": run.elapsed_ms(),
            "lakemesh.shadow.likeness": -1.0 if alike is None else alike,
            "lakemesh.shadow.error": shadow.failure.code if shadow.failure is not None else "",
        }
        parent = set_span_in_context(shadow.span)
        self._tracer.start_span("compare_shadow", context=parent, attributes=attributes).end()
        self._count(variation, outcome)
        self._variants.rollouts.compared(variation, outcome_of(run), outcome_of(shadow), outcome)

    def _count(self, variation: Variation, outcome: str) -> None:
        self._counter.add(1, {"rollout": variation.rollout, "outcome": outcome})


def shadow_request(request: AgentInput[Any], seconds: float) -> AgentInput[Any]:
    """The same request with data of its own: an agent may change what it is given."""
    return AgentInput(
        agent_name=request.agent_name,
        data=copy.deepcopy(request.data),
        session_id=request.session_id,
        timeout_seconds=seconds,
        metadata=request.metadata,
    )


def compared(alike: float | None, served: LakemeshError | None, shadow: LakemeshError | None) -> str:
    if alike is not None:
        return "same" if alike == 1.0 else "different"
    failed = is_failure(served), is_failure(shadow)
    return {(True, True): "both_failed", (False, True): "candidate_failed", (True, False): "baseline_failed"}.get(
        failed, "refused"
    )


def likeness(one: Any, other: Any) -> float:
    """The share of the values of two results, by their place, that are equal."""
    left, right = (dict(leaves(jsonable(value), "")) for value in (one, other))
    places = left.keys() | right.keys()
    same = sum(place in left and place in right and left[place] == right[place] for place in places)
    return same / len(places) if places else 1.0


def leaves(value: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{place}.{key}")]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, f"{place}[{index}]")]
    return [(place, value)]


def jsonable(value: Any) -> Any:
    return to_jsonable_python(value, fallback=str, inf_nan_mode="null")
