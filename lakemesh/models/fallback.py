"""Trying again: on one endpoint with growing, jittered pauses, and on the next of the route beside it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from lakemesh.config.models import RouteConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, LakemeshError, ModelRefused, ModelUnavailable
from lakemesh.lakehouse.endpoints import EndpointError
from lakemesh.models.calls import Attempt, GivenUp, GuardedEndpoint

logger = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
TOO_LATE = "The models did not answer before the deadline."


async def let_go(answer: object) -> None:
    """For answers that hold nothing open."""


async def first_answer(
    endpoints: Sequence[GuardedEndpoint],
    ask: Callable[[Attempt], Awaitable[T]],
    *,
    route: str,
    config: RouteConfig,
    deadline: Deadline,
    dispose: Callable[[T], Awaitable[None]] = let_go,
) -> T:
    """The first answer that any endpoint gives.

    Endpoints are asked in the order of the route. The time left is their budget: the next is asked when the one before
    failed, or when it has had its share of the time or the route's `hedge_after_seconds`; it goes on meanwhile (as in
    RFC 8305, "Happy Eyeballs"). Whoever is slower is cancelled, and an answer that came too late goes to `dispose`.

    Each endpoint gets up to `config.attempts` tries, as long as its failures can pass. The `Retry-After` it asks for is
    waited for when it fits into the deadline, and is no longer than our own pauses while others are left to ask.
    Raises `ModelRefused` when every endpoint refuses the request itself, `ModelUnavailable` when all of them failed,
    with the shortest `Retry-After`, and `DeadlineExceeded` when time ran out.
    """
    waiting = [Attempt(endpoint, route, deadline) for endpoint in reversed(endpoints)]
    running: dict[asyncio.Task[T], Attempt] = {}
    failures: list[tuple[str, EndpointError]] = []
    limit = deadline.timeout()
    answered = False
    try:
        async with limit:
            while waiting or running:
                pause = None
                if waiting:
                    pause = share_of(deadline, len(waiting), config.hedge_after_seconds)
                    attempt = waiting.pop()
                    longest = LONGEST_PAUSE_SECONDS if waiting else deadline.remaining_seconds()
                    running[asyncio.ensure_future(_try_endpoint(attempt, ask, config.attempts, longest))] = attempt
                done, _ = await asyncio.wait(
                    running, timeout=pause if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    attempt = running.pop(task)
                    try:
                        answer = task.result()
                    except EndpointError as error:
                        failures.append((attempt.endpoint.name, error))
                        logger.warning("model endpoint failed", endpoint=attempt.endpoint.name, reason=error.detail)
                    else:
                        answered = True
                        return answer
    except TimeoutError:
        raise DeadlineExceeded(TOO_LATE) from None
    finally:
        late: GivenUp | None = "deadline_exceeded" if limit.expired() else None
        await _abandon(running, "hedged" if answered else late, dispose)
    raise unanswered(failures)


def share_of(deadline: Deadline, endpoints_left: int, hedge_after_seconds: float | None) -> float:
    """How long to wait for an endpoint before the next is asked too."""
    share = deadline.remaining_seconds() / endpoints_left
    return share if hedge_after_seconds is None else min(share, hedge_after_seconds)


def unanswered(failures: Sequence[tuple[str, EndpointError]]) -> LakemeshError:
    """The error of a route whose endpoints all failed."""
    reasons = " ".join(f"{name}: {error.detail}" for name, error in failures)
    refusals = [error.refusal for _, error in failures if error.refusal]
    if len(refusals) == len(failures):
        reason = min(refusals, key=lambda refusal: refusal == "invalid_request")
        return ModelRefused(f"No model takes this request ({reasons}); {WHAT_TO_DO[reason]}.", reason=reason)
    pauses = [error.retry_after_seconds for _, error in failures if error.retry_after_seconds is not None]
    return ModelUnavailable(
        f"No model answered ({reasons}); try again later.", retry_after_seconds=min(pauses, default=None)
    )


WHAT_TO_DO = {
    "context_length": "send less text",
    "content_filter": "it is against the model's rules",
    "invalid_request": "the agent that sent it is at fault",
}


async def _abandon(
    running: dict[asyncio.Task[T], Attempt], given_up: GivenUp | None, dispose: Callable[[T], Awaitable[None]]
) -> None:
    """End the attempts nobody waits for any longer."""
    if not running:
        return
    for task, attempt in running.items():
        attempt.given_up = given_up
        task.cancel()
    done, _ = await asyncio.wait(running)
    for task in done:
        if not task.cancelled() and task.exception() is None:
            await dispose(task.result())


async def _try_endpoint(
    attempt: Attempt, ask: Callable[[Attempt], Awaitable[T]], attempts: int, longest_pause_seconds: float
) -> T:
    import stamina

    deadline = attempt.deadline

    def may_pass(error: Exception) -> bool | float:
        """Whether to try again, and after how many seconds when the endpoint said so."""
        if not isinstance(error, EndpointError) or not error.retryable:
            return False
        pause = error.retry_after_seconds
        if pause is None:
            return True
        return pause if pause < min(longest_pause_seconds, deadline.remaining_seconds()) else False

    retries = stamina.retry_context(
        on=may_pass,
        attempts=attempts,
        timeout=deadline.remaining_seconds() or 0.001,
        wait_initial=FIRST_PAUSE_SECONDS,
        wait_max=LONGEST_PAUSE_SECONDS,
        wait_jitter=FIRST_PAUSE_SECONDS,
    )
    async for retry in retries:
        with retry:
            return await ask(attempt)
    raise AssertionError("stamina ends by returning or raising")
