"""What each A2A operation does, over the engine. A binding gives it what it read and encodes what it answers."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentelemetry.context import Context
from pydantic_core import to_json

from lakemesh.a2a import wire
from lakemesh.a2a.card import Cards
from lakemesh.a2a.errors import InvalidParams, TaskNotCancelable, TaskNotFound, UnsupportedOperation
from lakemesh.a2a.parts import SKILL_KEY, choose_skill, data_of, metadata_of
from lakemesh.a2a.push import Push
from lakemesh.a2a.task_state import Json, Update, answer_of, moment_of
from lakemesh.a2a.tasks import NewTask, PushConfig, Task, TaskQuery, Tasks
from lakemesh.config.a2a import A2aConfig
from lakemesh.engine.registry import AgentDescription
from lakemesh.engine.router import AgentRouter, new_execution_id
from lakemesh.errors import LakemeshError
from lakemesh.http import timeout_header
from lakemesh.schemas import AgentInput, Identity

DOOR = "a2a"
DEFAULT_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what came with the request. `legacy` speaks protocol 0.3."""

    identity: Identity
    headers: Mapping[str, str]
    trace: Context | None
    base_url: Callable[[], str]
    legacy: bool = False

    @property
    def user(self) -> str:
        return self.identity.user


class EngineHandler:
    """A task is an execution of the engine, owned by the identity that asked for it, and its id is the execution's."""

    def __init__(self, config: A2aConfig, *, router: AgentRouter, push: Push, tasks: Tasks, cards: Cards) -> None:
        self._config = config
        self._router = router
        self._push = push
        self._tasks = tasks
        self._cards = cards

    async def send_message(self, request: wire.SendMessage, caller: Caller) -> Update | Json:
        """The task, when it has ended or asks something; its answer alone where the agent answers in messages."""
        task = await self._send(request, caller)
        if self._answers_in_messages(task):
            return await answered(task)
        await (task.begun() if request.configuration.return_immediately else task.wait())
        if request.configuration.history_length is None and not caller.legacy:
            return Json(b'{"task":%s}' % task.json())
        return {"task": shortened(task.view(), request.configuration.history_length)}

    async def stream_message(self, request: wire.SendMessage, caller: Caller) -> AsyncGenerator[Update]:
        task = await self._send(request, caller)
        if self._answers_in_messages(task):
            yield await answered(task)
        else:
            async with aclosing(task.listen(until_asked=True)) as updates:
                async for update in updates:
                    yield update

    async def get_task(self, request: wire.GetTask, caller: Caller) -> dict[str, Any]:
        task = await self._tasks.find(request.id, caller.user)
        return shortened(task.view(), request.history_length)

    async def list_tasks(self, request: wire.ListTasks, caller: Caller) -> dict[str, Any]:
        """The newest first."""
        size = request.page_size or DEFAULT_PAGE
        query = TaskQuery(
            size=size,
            context_id=request.context_id,
            state=request.status or "",
            changed_after=changed_after(request.status_timestamp_after),
            page_token=request.page_token,
            artifacts=request.include_artifacts,
        )
        page = await self._tasks.page(caller.user, query)
        tasks = page.tasks
        if not request.include_artifacts:
            tasks = [{name: value for name, value in task.items() if name != "artifacts"} for task in tasks]
        return {
            "tasks": [shortened(task, request.history_length) for task in tasks],
            "nextPageToken": page.next_page_token,
            "pageSize": size,
            "totalSize": page.total,
        }

    async def cancel_task(self, request: wire.TaskId, caller: Caller) -> dict[str, Any]:
        task = await self._tasks.find(request.id, caller.user)
        if task.ended:
            raise TaskNotCancelable("The task has ended.")
        await task.cancel()
        return task.view()

    async def subscribe_to_task(self, request: wire.TaskId, caller: Caller) -> AsyncGenerator[Update]:
        task = await self._tasks.find(request.id, caller.user)
        if task.ended:
            raise UnsupportedOperation("The task has ended; read it with GetTask.")
        async with aclosing(task.listen()) as updates:
            async for update in updates:
                yield update

    async def get_extended_card(self, request: wire.Nothing, caller: Caller) -> dict[str, Any]:
        """With every skill this caller may use."""
        return self._cards.make(caller.identity, caller.base_url())

    async def create_push_config(self, request: wire.NewPushConfig, caller: Caller) -> dict[str, Any]:
        """Of an ended task too: it is kept with it, and nothing comes."""
        task = await self._tasks.find(request.task_id, caller.user)
        await self._push.check(request)
        config = self._push.named(request, task.id, legacy=caller.legacy)
        await self._tasks.add_push(task, config)
        return shown(config)

    async def get_push_config(self, request: wire.PushConfigId, caller: Caller) -> dict[str, Any]:
        for config in await self._push_configs(request.task_id, caller):
            if config["id"] == request.id:
                return shown(config)
        raise TaskNotFound(f"The task has no push notification configuration {request.id!r:.80}.")

    async def list_push_configs(self, request: wire.OfTask, caller: Caller) -> dict[str, Any]:
        """All of them: there are at most `MAX_PUSH_CONFIGS`."""
        return {"configs": [shown(config) for config in await self._push_configs(request.task_id, caller)]}

    async def delete_push_config(self, request: wire.PushConfigId, caller: Caller) -> None:
        await self._tasks.remove_push(await self._tasks.find(request.task_id, caller.user), request.id)

    async def _push_configs(self, task_id: str, caller: Caller) -> Sequence[PushConfig]:
        return await self._tasks.push_configs(await self._tasks.find(task_id, caller.user))

    async def _send(self, request: wire.SendMessage, caller: Caller) -> Task:
        """The task of this message: the one it answers, the one that the same message began before, or a new one."""
        push = request.configuration.task_push_notification_config
        if push is not None:
            await self._push.check(push)
        if request.message.task_id:
            task = await self._go_on(request, caller)
        else:
            agent = self._skill_of(request, caller.identity)
            data = data_of(request.message, agent.input_schema)
            task = await self._tasks.begin(self._new_task(request, caller, agent.name, data))
        if push is not None:
            await self._tasks.add_push(task, self._push.named(push, task.id, legacy=caller.legacy))
        return task

    def _skill_of(self, request: wire.SendMessage, identity: Identity) -> AgentDescription:
        """Raises `InvalidParams`, which names the skills there are."""
        registry = self._router.registry
        name = request.message.metadata.get(SKILL_KEY) or request.metadata.get(SKILL_KEY) or self._config.default_skill
        if isinstance(name, str):
            try:
                return registry.get_for(name, identity, DOOR).description
            except LakemeshError:
                pass  # the refusal names those there are
        return choose_skill(request.message, name, registry.visible_to(identity, DOOR))

    def _new_task(
        self, request: wire.SendMessage, caller: Caller, skill: str, data: dict[str, Any], context_id: str = ""
    ) -> NewTask:
        message = request.message
        sent = message.model_dump(by_alias=True, exclude_unset=True)
        context_id = context_id or message.context_id or new_execution_id()
        return NewTask(
            request=AgentInput(
                agent_name=skill,
                data=data,
                session_id=context_id,
                timeout_seconds=timeout_header(caller.headers),
                metadata=metadata_of(request),
            ),
            identity=caller.identity,
            context_id=context_id,
            message=sent,
            key=message_key(sent, request.metadata),
            modes=request.configuration.accepted_output_modes,
            parent=caller.trace,
        )

    async def _go_on(self, request: wire.SendMessage, caller: Caller) -> Task:
        """The task that waits for this message. Raises `UnsupportedOperation` for one that does not."""
        message = request.message
        task = await self._tasks.find(message.task_id, caller.user)
        if message.context_id and message.context_id != task.context_id:
            raise InvalidParams("The task is of another context.")
        if task.state == "TASK_STATE_AUTH_REQUIRED":
            return await self._authorized(request, caller, task)
        if task.ended:
            raise UnsupportedOperation(
                "The task has ended; begin another in its context, and name it in referenceTaskIds."
            )
        if not task.questions:
            raise UnsupportedOperation("The task does not wait for a message; it is working.")
        question = task.questions.get(str(message.metadata.get("question_id"))) or next(iter(task.questions.values()))
        answer = None if message.metadata.get("decline") is True else data_of(message, question.schema)
        sent = message.model_dump(by_alias=True, exclude_unset=True)
        await task.answer(question, answer, sent, caller.identity)
        return task

    async def _authorized(self, request: wire.SendMessage, caller: Caller, task: Task) -> Task:
        """The task that ended for want of authorization, once more: a caller who has it now sent this message."""
        schema = self._router.registry.get(task.skill).description.input_schema
        first = wire.read(wire.Message, task.view()["history"][0])
        data = {**data_of(request.message, schema), **data_of(first, schema)}
        return await self._tasks.resume(task, self._new_task(request, caller, task.skill, data, task.context_id))

    def _answers_in_messages(self, task: Task) -> bool:
        return self._router.registry.get(task.skill).agent.answers_in_messages


async def answered(task: Task) -> Update:
    """The answer as a message; the task where there is no answer but a failure or a question."""
    await task.wait()
    view = task.view()
    return {"message": answer_of(view)} if task.state == "TASK_STATE_COMPLETED" else {"task": view}


def message_key(message: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """The same message sent again, by a client that did not see its answer, has the same key; another message under an
    id that was used before does not."""
    body = to_json([message, metadata])
    return f"{message['messageId']}:{hashlib.blake2b(body, digest_size=16).hexdigest()}"


def changed_after(timestamp: str) -> datetime | None:
    try:
        return moment_of(timestamp) if timestamp else None
    except (ValueError, OverflowError):
        raise InvalidParams("'statusTimestampAfter' is no RFC 3339 timestamp.") from None


def shown(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "legacy"}


def shortened(task: dict[str, Any], history_length: int | None) -> dict[str, Any]:
    """The task with as many messages of its history as were asked for; itself when nothing was."""
    if history_length is None:
        return task
    history = task.get("history", [])
    return {**task, "history": history[len(history) - min(history_length, len(history)) :]}
