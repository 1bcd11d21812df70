"""Trying again: on one endpoint with growing, jittered pauses, then on the next of the route."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from lakemesh.deadline import Deadline
from lakemesh.errors import DeadlineExceeded, ModelUnavailable
from lakemesh.lakehouse.endpoints import EndpointError
from lakemesh.models.calls import GuardedEndpoint

logger = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


async def first_answer(
    endpoints: Sequence[GuardedEndpoint],
    attempt: Callable[[GuardedEndpoint], Awaitable[T]],
    *,
    attempts: int,
    deadline: Deadline,
) -> T:
    """The first answer that any endpoint gives, in the order of the route.

    Each endpoint gets up to `attempts` tries, as long as its failures can pass and the pause, or the `Retry-After`
    it asks for, fits into the deadline. Raises `ModelUnavailable` when all of them failed, `DeadlineExceeded` when
    time ran out.
    """
    failures: list[str] = []
    for endpoint in endpoints:
        try:
            return await _try_endpoint(endpoint, attempt, attempts, deadline)
        except EndpointError as error:
            failures.append(f"{endpoint.name}: {error.detail}")
            logger.warning("model endpoint failed", endpoint=endpoint.name, reason=error.detail)
        except TimeoutError:
            failures.append(f"{endpoint.name}: no slot in time")
        if deadline.expired:
            raise DeadlineExceeded("The models did not answer before the deadline.")
    raise ModelUnavailable(f"No model answered ({' '.join(failures)}); try again later.")


async def _try_endpoint(
    endpoint: GuardedEndpoint, attempt: Callable[[GuardedEndpoint], Awaitable[T]], attempts: int, deadline: Deadline
) -> T:
    import stamina

    def may_pass(error: Exception) -> bool | float:
        """Whether to try again, and after how many seconds when the endpoint said so."""
        if not isinstance(error, EndpointError) or not error.retryable:
            return False
        pause = error.retry_after_seconds
        if pause is not None and pause >= deadline.remaining_seconds():
            return False
        return True if pause is None else pause

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
            return await attempt(endpoint)
    raise AssertionError("stamina ends by returning or raising")
