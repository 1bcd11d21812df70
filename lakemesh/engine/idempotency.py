"""One answer for one idempotency key, however often the request is sent."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pydantic_core
from cachetools import TTLCache

from lakemesh.deadline import Deadline
from lakemesh.errors import Cancelled, Conflict, DeadlineExceeded
from lakemesh.schemas import AgentInput, AgentOutput, Identity

FIRST_LEFT = "The first request with this Idempotency-Key was cancelled; send it again."


@dataclass(slots=True)
class _Entry:
    fingerprint: bytes
    answer: asyncio.Future[AgentOutput]


class IdempotentAnswers:
    """Answers by (user, agent, key), kept for a while in this process.

    A repeat waits for, or is given, the first one's answer; a repeat with other data raises `Conflict`. A
    failure is not kept, so that it can be tried again.
    """

    def __init__(self, *, max_entries: int = 10_000, ttl_seconds: float = 3600.0) -> None:
        self._entries: TTLCache[tuple[str, str, str], _Entry] = TTLCache(max_entries, ttl_seconds)

    async def get_or_run(
        self,
        request: AgentInput,
        identity: Identity,
        deadline: Deadline,
        run: Callable[[], Awaitable[AgentOutput]],
    ) -> AgentOutput:
        """Raises what `run` raises, `Conflict`, and `DeadlineExceeded` when the first answer takes too long."""
        key = (identity.user, request.agent_name, request.idempotency_key or "")
        fingerprint = hashlib.sha256(pydantic_core.to_json([request.data, request.session_id])).digest()
        entry = self._entries.get(key)
        if entry is not None:
            if entry.fingerprint != fingerprint:
                raise Conflict("This Idempotency-Key was used with other data; send a new key for a new request.")
            return await self._wait(entry, deadline)
        entry = self._entries[key] = _Entry(fingerprint, asyncio.get_running_loop().create_future())
        try:
            output = await run()
        except BaseException as error:
            self._entries.pop(key, None)
            entry.answer.set_exception(error if isinstance(error, Exception) else Cancelled(FIRST_LEFT))
            entry.answer.exception()  # marks it as seen: perhaps nobody waits for it
            raise
        entry.answer.set_result(output)
        return output

    async def _wait(self, entry: _Entry, deadline: Deadline) -> AgentOutput:
        try:
            async with deadline.timeout():
                return await asyncio.shield(entry.answer)
        except TimeoutError:
            raise DeadlineExceeded("The first request with this Idempotency-Key is still running.") from None
