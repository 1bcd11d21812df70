"""What an agent of a durable invocation has beside it: saved state, and answers that may take days."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from lakemesh.errors import DeadlineExceeded, Unavailable
from lakemesh.invocations.schemas import Claim, Question
from lakemesh.invocations.store import InvocationStore
from lakemesh.schemas import Asked


class DurableState:
    """`lakemesh.scope.Durable` of one attempt. While a question is open longer than `park_seconds`, `on_long_wait` is
    called: the run leaves memory, and the answer brings it back, from its beginning, with the answers it had."""

    def __init__(
        self,
        claim: Claim,
        *,
        worker: UUID,
        store: InvocationStore,
        park_seconds: float,
        on_asked: Callable[[Asked], None],
        on_long_wait: Callable[[], None],
    ) -> None:
        self._claim = claim
        self._worker = worker
        self._store = store
        self._park_seconds = park_seconds
        self._on_asked = on_asked
        self._on_long_wait = on_long_wait
        self._asked: Counter[str] = Counter()
        self.state: Any = claim.checkpoint

    @property
    def run_id(self) -> str:
        return f"{self._claim.owner}/{self._claim.id.hex}"

    async def is_cancelled(self) -> bool:
        return await self._store.cancel_requested(self._claim.number)

    async def save(self, state: Any) -> None:
        if not await self._store.checkpoint(self._claim, self._worker, state):
            raise Unavailable("Another worker runs this invocation now; nothing was saved.")
        self.state = state

    async def ask(self, agent_name: str, message: str, schema: Mapping[str, Any], *, timeout_seconds: float) -> Any:
        key = self._key(agent_name, message, schema)
        with self._store.database.notifications.subscribe(f"answer/{self._claim.number}") as woken:
            question, is_new = await self._ask(key, message, schema, timeout_seconds)
            if is_new:
                self._on_asked(asked_event(self._claim, question, timeout_seconds))
            parking = asyncio.get_running_loop().call_later(self._park_seconds, self._on_long_wait)
            try:
                while not question.answered:
                    if question.expired:
                        raise DeadlineExceeded("The caller did not answer in time.")
                    await woken.wait()
                    woken.clear()
                    question, _ = await self._ask(key, message, schema, timeout_seconds)
            finally:
                parking.cancel()
        return question.answer

    async def _ask(
        self, key: str, message: str, schema: Mapping[str, Any], timeout_seconds: float
    ) -> tuple[Question, bool]:
        return await self._store.ask(self._claim, self._worker, key, message, schema, timeout_seconds=timeout_seconds)

    def _key(self, agent_name: str, message: str, schema: Mapping[str, Any]) -> str:
        """The same question at the same place has the same key in every attempt, however branches interleave."""
        digest = hashlib.sha256(to_json([agent_name, message, schema])).hexdigest()[:32]
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest]}"


def asked_event(claim: Claim, question: Question, timeout_seconds: float) -> Asked:
    return Asked(
        execution_id=str(claim.id),
        question_id=question.question_id,
        message=question.message,
        schema=question.schema,
        timeout_seconds=timeout_seconds,
    )
