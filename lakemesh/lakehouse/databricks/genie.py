"""Genie conversations. The SDK's own waiter polls a cancelled message until it times out, so this one polls itself."""

import asyncio
from typing import TYPE_CHECKING, Any

from lakemesh.deadline import Deadline
from lakemesh.errors import Cancelled, DeadlineExceeded, Unavailable
from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.lakehouse.databricks.cells import read_rows, type_name
from lakemesh.lakehouse.databricks.translation import statement_error
from lakemesh.lakehouse.genie import GenieAnswer, GenieQuery, Rating
from lakemesh.lakehouse.warehouse import QueryResult
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.dashboards import GenieMessage
    from databricks.sdk.service.sql import StatementResponse

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.5, 5.0
RESULT_SECONDS = 60.0


class GenieSpaces:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._api = client.genie
        self._calls = calls

    async def ask(
        self, space_id: str, question: str, *, conversation_id: str | None = None, timeout_seconds: float = 120.0
    ) -> GenieAnswer:
        deadline = current_deadline(timeout_seconds).sooner(timeout_seconds)
        conversation, message = await self._send(space_id, question, conversation_id, deadline)
        return answer_of(await self._finish(space_id, conversation, message, deadline))

    async def fetch_rows(self, space_id: str, answer: GenieAnswer, query: GenieQuery) -> QueryResult:
        where = (space_id, answer.conversation_id, answer.message_id, query.attachment_id)
        deadline = current_deadline(RESULT_SECONDS)
        result = await self._calls.run(
            lambda: self._api.get_message_attachment_query_result(*where), deadline=deadline, repeatable=True
        )
        if result.statement_response is None or result.statement_response.result is None:
            result = await self._calls.run(
                lambda: self._api.execute_message_attachment_query(*where), deadline=deadline
            )
        if result.statement_response is None:
            raise Unavailable("Genie has no rows for this query.")
        require_succeeded(result.statement_response)
        return result_of(result.statement_response)

    async def rate(self, space_id: str, conversation_id: str, message_id: str, rating: Rating) -> None:
        from databricks.sdk.service.dashboards import GenieFeedbackRating

        given = GenieFeedbackRating(rating.upper())
        await self._calls.run(
            lambda: self._api.send_message_feedback(space_id, conversation_id, message_id, given),
            deadline=current_deadline(RESULT_SECONDS),
            repeatable=True,
        )

    async def _send(
        self, space_id: str, question: str, conversation_id: str | None, deadline: Deadline
    ) -> tuple[str, str]:
        """The conversation and the message the question became. The SDK's wait objects are not waited on; it types
        their responses as `any`."""

        def send() -> tuple[str, str]:
            if conversation_id is None:
                started: Any = self._api.start_conversation(space_id, question).response
                return started.conversation_id, started.message_id
            created: Any = self._api.create_message(space_id, conversation_id, question).response
            return conversation_id, created.message_id or created.id

        return await self._calls.run(send, deadline=deadline)

    async def _finish(self, space_id: str, conversation: str, message: str, deadline: Deadline) -> "GenieMessage":
        pause = FIRST_POLL_SECONDS
        while True:
            answer = await self._calls.run(
                lambda: self._api.get_message(space_id, conversation, message), deadline=deadline, repeatable=True
            )
            status = answer.status.value if answer.status else ""
            if status in ("COMPLETED", "QUERY_RESULT_EXPIRED"):
                return answer
            if status == "CANCELLED":
                raise Cancelled("The question was cancelled.")
            if status == "FAILED":
                reason = answer.error.error if answer.error else None
                raise Unavailable(f"Genie could not answer: {reason or 'it gave no reason'}.")
            try:
                async with deadline.timeout():
                    await asyncio.sleep(pause)
            except TimeoutError:
                raise DeadlineExceeded("Genie did not answer in time.") from None
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)


def answer_of(message: "GenieMessage") -> GenieAnswer:
    texts, queries, suggestions = [], [], []
    for attachment in message.attachments or []:
        if attachment.text and attachment.text.content:
            texts.append(attachment.text.content)
        if attachment.query and attachment.query.query:
            queries.append(
                GenieQuery(
                    attachment_id=attachment.attachment_id or "",
                    statement=attachment.query.query,
                    description=attachment.query.description,
                    parameters={one.keyword: one.value for one in attachment.query.parameters or [] if one.keyword},
                )
            )
        if attachment.suggested_questions:
            suggestions += attachment.suggested_questions.questions or []
    return GenieAnswer(
        conversation_id=message.conversation_id,
        message_id=message.message_id or message.id or "",
        text="\n".join(texts) or None,
        queries=queries,
        suggested_questions=suggestions,
    )


def require_succeeded(answer: "StatementResponse") -> None:
    """Raises the designed error of a query that failed, or was not done: that is no empty result."""
    from databricks.sdk.service.sql import StatementState

    status = answer.status
    if status is None or status.state in (None, StatementState.SUCCEEDED, StatementState.CLOSED):
        return
    error = status.error
    if error is None:
        raise Unavailable(f"Genie's query is {status.state.value.lower() if status.state else 'gone'}.")
    raise statement_error(error.error_code.value if error.error_code else None, error.message or "It failed.")


def result_of(answer: "StatementResponse") -> QueryResult:
    """The rows of an inline answer; Genie's results are small."""
    manifest = answer.manifest
    columns = (manifest.schema.columns or []) if manifest and manifest.schema else []
    types = [type_name(column.type_text) for column in columns]
    cells = (answer.result.data_array if answer.result else None) or []
    return QueryResult(
        columns=[column.name or "" for column in columns],
        types=types,
        rows=read_rows(types, cells),
        truncated=bool(manifest and manifest.truncated),
    )
