"""What an agent of a durable invocation has beside it: saved state, and answers that may take days."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from pydantic_core import to_json

from lakemesh.errors import DeadlineExceeded, Unavailable
from lakemesh.invocations.schemas import Claim, Question
from lakemesh.invocations.store import InvocationStore
from lakemesh.schemas import ApprovalRequest, Asked

Asking = Callable[[], Awaitable[tuple[Question, bool]]]
APPROVAL_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "title": "Decision",
    "properties": {
        "approved": {"type": "boolean", "title": "Approve"},
        "comment": {"type": "string", "title": "Comment", "maxLength": 2_000},
    },
    "required": ["approved"],
}


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
        ask = partial(self._store.ask, self._claim, self._worker, key, message, schema, timeout_seconds=timeout_seconds)
        return await self._answer_to(ask, timeout_seconds, self._on_asked)

    async def approve(self, request: ApprovalRequest, on_new: Callable[[str], None]) -> Mapping[str, Any]:
        """The same proposal is put to people once for a run, in whatever attempt."""
        id_ = uuid4()
        asking = partial(
            self._store.ask,
            self._claim,
            self._worker,
            approval_key(request),
            message_of(request, id_),
            APPROVAL_SCHEMA,
            timeout_seconds=request.timeout_seconds,
            approval=(id_, request),
        )

        def tell(asked: Asked) -> None:
            self._on_asked(asked)
            on_new(str(id_))

        verdict: Mapping[str, Any] = await self._answer_to(asking, request.timeout_seconds, tell)
        return verdict

    async def _answer_to(self, asking: Asking, timeout_seconds: float, tell: Callable[[Asked], None]) -> Any:
        with self._store.database.notifications.subscribe(f"answer/{self._claim.number}") as woken:
            question, is_new = await asking()
            if is_new:
                tell(asked_event(self._claim, question, timeout_seconds))
            parking = asyncio.get_running_loop().call_later(self._park_seconds, self._on_long_wait)
            try:
                while not question.answered:
                    if question.expired:
                        raise DeadlineExceeded("The caller did not answer in time.")
                    await woken.wait()
                    woken.clear()
                    question, _ = await asking()
            finally:
                parking.cancel()
        return question.answer

    def _key(self, agent_name: str, message: str, schema: Mapping[str, Any]) -> str:
        """The same question at the same place has the same key in every attempt, however branches interleave."""
        digest = hashlib.sha256(to_json([agent_name, message, schema])).hexdigest()[:32]
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest]}"


def approval_key(request: ApprovalRequest) -> str:
    """One proposal has one key in every attempt: what is done, with which details, and which rule wants it."""
    said = [request.proposal.get(name) for name in ("action", "details", "diff", "rule")]
    return f"approval-{hashlib.sha256(to_json([request.agent_name, said])).hexdigest()[:32]}"


def message_of(request: ApprovalRequest, id_: UUID) -> str:
    return f"Waits for an approval: {request.proposal['action']} (/api/approvals/{id_})"


def asked_event(claim: Claim, question: Question, timeout_seconds: float) -> Asked:
    return Asked(
        execution_id=str(claim.id),
        question_id=question.question_id,
        message=question.message,
        schema=question.schema,
        timeout_seconds=timeout_seconds,
    )
