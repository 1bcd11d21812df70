"""Genie by script, or by a semantic model: the SQL is really run."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from lakemesh.agents.analyst.genie import SemanticSpace
from lakemesh.agents.analyst.semantic_model import SemanticModel
from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.emulator.statements import Statements, answer

RATINGS = ("POSITIVE", "NEGATIVE", "NONE")
WORKING = ("SUBMITTED", "ASKING_AI", "EXECUTING_QUERY")


class ScriptedAnswer(BaseModel, extra="forbid"):
    """What Genie says when the question contains `when` (in any case). `status` is how the message ends; `more` are
    further queries of the same answer."""

    when: str
    text: str | None = None
    query: str | None = None
    more: Sequence[str] = ()
    status: str = Field(default="COMPLETED", pattern="^(COMPLETED|FAILED|CANCELLED)$")
    parameters: Mapping[str, str | int | float | bool] = {}
    suggested_questions: Sequence[str] = ()


class Space(BaseModel, extra="forbid"):
    """Its script comes first; what that does not have, the semantic model answers, with relative times told from
    `today`, or from the current day (UTC)."""

    space_id: str
    title: str = "Emulated space"
    warehouse_id: str = "emulator"
    answers: Sequence[ScriptedAnswer] = ()
    semantic_model: SemanticModel | None = None
    today: date | None = None


class Message:
    """Moves one status on each time it is read, then ends."""

    def __init__(self, space_id: str, conversation_id: str, content: str, script: ScriptedAnswer) -> None:
        self.space_id, self.conversation_id, self.content, self.script = space_id, conversation_id, content, script
        self.message_id = secrets.token_hex(16)
        self.queries = {secrets.token_hex(16): query for query in (script.query, *script.more) if query}
        """By attachment."""
        self.rating: str | None = None
        self.reads = 0

    def to_dict(self) -> dict[str, Any]:
        status = WORKING[self.reads] if self.reads < len(WORKING) else self.script.status
        self.reads += 1
        body: dict[str, Any] = {
            "id": self.message_id,
            "message_id": self.message_id,
            "space_id": self.space_id,
            "conversation_id": self.conversation_id,
            "content": self.content,
            "status": status,
        }
        if self.rating is not None:
            body["feedback"] = {"rating": self.rating}
        if status == "FAILED":
            body["error"] = {"error": "The script says so.", "type": "GENERIC_CHAT_COMPLETION_EXCEPTION"}
        if status == "COMPLETED":
            body["attachments"] = self._attachments()
        return body

    def _attachments(self) -> list[dict[str, Any]]:
        attachments: list[dict[str, Any]] = []
        for attachment_id, statement in self.queries.items():
            query: dict[str, Any] = {"query": statement, "description": self.content}
            if self.script.parameters:
                query["parameters"] = parameters_of(self.script.parameters, "keyword", "sql_type")
            attachments.append({"attachment_id": attachment_id, "query": query})
        if self.script.text:
            attachments.append({"attachment_id": secrets.token_hex(16), "text": {"content": self.script.text}})
        if self.script.suggested_questions:
            suggested = {"questions": list(self.script.suggested_questions)}
            attachments.append({"attachment_id": secrets.token_hex(16), "suggested_questions": suggested})
        return attachments


def parameters_of(values: Mapping[str, str | int | float | bool], name: str, kind: str) -> list[dict[str, str]]:
    """Bound values as the API has them; `name` and `kind` are what it calls a parameter's name and type there."""
    types: dict[type, str] = {str: "STRING", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
    return [{name: key, kind: types[type(value)], "value": str(value)} for key, value in values.items()]


class Modelled:
    """The spaces that have a semantic model, and what their conversations were about."""

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        self._spaces = {
            name: SemanticSpace(space.semantic_model, lambda day=space.today: day or datetime.now(UTC).date())  # type: ignore[misc]
            for name, space in spaces.items()
            if space.semantic_model is not None
        }
        self._plans: dict[str, str] = {}

    def answer(self, space_id: str, conversation_id: str, question: str) -> ScriptedAnswer | None:
        if space_id not in self._spaces:
            return None
        answer = self._spaces[space_id].answer(question, self._plans.get(conversation_id))
        self._plans[conversation_id] = answer.conversation_id
        query = answer.queries[0] if answer.queries else None
        return ScriptedAnswer(
            when="",
            text=answer.text,
            query=query.statement if query else None,
            parameters=query.parameters if query else {},
            suggested_questions=answer.suggested_questions,
        )


def routes(spaces: Mapping[str, Space], statements: Statements) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/genie/spaces")
    conversations: dict[str, str] = {}
    messages: dict[str, Message] = {}
    modelled = Modelled(spaces)

    def space_of(space_id: str) -> Space:
        if space_id not in spaces:
            raise not_found(f"Genie space {space_id!r}")
        return spaces[space_id]

    def ask(space_id: str, conversation_id: str, content: str) -> Message:
        nothing = ScriptedAnswer(when="", text="There is no scripted answer to this question.")
        scripted = (item for item in space_of(space_id).answers if item.when.lower() in content.lower())
        script = next(scripted, None) or modelled.answer(space_id, conversation_id, content) or nothing
        message = Message(space_id, conversation_id, content, script)
        messages[message.message_id] = message
        return message

    def message_of(conversation_id: str, message_id: str) -> Message:
        message = messages.get(message_id)
        if message is None or message.conversation_id != conversation_id:
            raise not_found(f"Message {message_id!r}")
        return message

    @router.get("")
    async def list_spaces() -> dict[str, Any]:
        return {"spaces": [{"space_id": item.space_id, "title": item.title} for item in spaces.values()]}

    @router.get("/{space_id}")
    async def get_space(space_id: str) -> dict[str, Any]:
        space = space_of(space_id)
        return {"space_id": space.space_id, "title": space.title, "warehouse_id": space.warehouse_id}

    @router.post("/{space_id}/start-conversation")
    async def start(space_id: str, request: Request) -> dict[str, Any]:
        content = str(body_of(await request.body()).get("content") or "")
        conversation_id = secrets.token_hex(16)
        message = ask(space_id, conversation_id, content)
        conversations[conversation_id] = space_id
        conversation = {"id": conversation_id, "space_id": space_id, "user_id": 1, "title": content[:60]}
        return {
            "conversation_id": conversation_id,
            "message_id": message.message_id,
            "conversation": conversation,
            "message": message.to_dict(),
        }

    @router.post("/{space_id}/conversations/{conversation_id}/messages")
    async def follow_up(space_id: str, conversation_id: str, request: Request) -> dict[str, Any]:
        if conversations.get(conversation_id) != space_id:
            raise not_found(f"Conversation {conversation_id!r}")
        content = str(body_of(await request.body()).get("content") or "")
        return ask(space_id, conversation_id, content).to_dict()

    @router.get("/{space_id}/conversations/{conversation_id}/messages/{message_id}")
    async def get_message(space_id: str, conversation_id: str, message_id: str) -> dict[str, Any]:
        return message_of(conversation_id, message_id).to_dict()

    @router.get(
        "/{space_id}/conversations/{conversation_id}/messages/{message_id}/attachments/{attachment_id}/query-result"
    )
    @router.post(
        "/{space_id}/conversations/{conversation_id}/messages/{message_id}/attachments/{attachment_id}/execute-query"
    )
    async def query_result(
        conversation_id: str, message_id: str, attachment_id: str, request: Request
    ) -> dict[str, Any]:
        message = message_of(conversation_id, message_id)
        if attachment_id not in message.queries:
            raise not_found(f"Attachment {attachment_id!r}")
        bound = parameters_of(message.script.parameters, "name", "type")
        statement = statements.submit(
            {"statement": message.queries[attachment_id], "parameters": bound}, request.state.user
        )
        await statement.task_over()
        return {"statement_response": answer(statement, str(request.base_url))}

    @router.post("/{space_id}/conversations/{conversation_id}/messages/{message_id}/feedback")
    async def feedback(conversation_id: str, message_id: str, request: Request) -> dict[str, Any]:
        rating = body_of(await request.body()).get("rating")
        if rating not in RATINGS:
            raise ApiError(400, f"{rating!r:.40} is no rating; there are {', '.join(RATINGS)}.")
        message_of(conversation_id, message_id).rating = rating
        return {}

    return router
