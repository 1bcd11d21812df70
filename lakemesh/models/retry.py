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

    Each endpoint gets up to `attempts` tries, as long as its failures can pass. The `Retry-After` it asks for is
    waited for when it fits into the deadline, and is no longer than our own pauses while others are left to ask.
    Raises `ModelUnavailable` when all of them failed, with the shortest `Retry-After`; `DeadlineExceeded` when time
    ran out.
    """
    failures: list[EndpointError] = []
    for place, endpoint in enumerate(endpoints, start=1):
        longest = deadline.remaining_seconds() if place == len(endpoints) else LONGEST_PAUSE_SECONDS
        try:
            async with deadline.timeout():
                return await _try_endpoint(endpoint, attempt, attempts, longest, deadline)
        except EndpointError as error:
            failures.append(error)
            logger.warning("model endpoint failed", endpoint=endpoint.name, reason=error.detail)
        except TimeoutError:
            raise DeadlineExceeded("The models did not answer before the deadline.") from None
        if deadline.expired:
            raise DeadlineExceeded("The models did not answer before the deadline.")
    pauses = [error.retry_after_seconds for error in failures if error.retry_after_seconds is not None]
    reasons = " ".join(f"{endpoint.name}: {error.detail}" for endpoint, error in zip(endpoints, failures, strict=True))
    raise ModelUnavailable(
        f"No model answered ({reasons}); try again later.", retry_after_seconds=min(pauses, default=None)
    )


async def _try_endpoint(
    endpoint: GuardedEndpoint,
    attempt: Callable[[GuardedEndpoint], Awaitable[T]],
    attempts: int,
    longest_pause_seconds: float,
    deadline: Deadline,
) -> T:
    import stamina

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
            return await attempt(endpoint)
    raise AssertionError("stamina ends by returning or raising")
