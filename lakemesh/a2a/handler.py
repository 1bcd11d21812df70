"""What each A2A operation does, over the engine. A binding gives it what it read and encodes what it answers."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog
from opentelemetry.context import Context
from pydantic_core import to_json

from lakemesh.a2a import wire
from lakemesh.a2a.card import Cards
from lakemesh.a2a.errors import InvalidParams, TaskNotCancelable, TaskNotFound, UnsupportedOperation
from lakemesh.a2a.parts import choose_skill, data_of, metadata_of
from lakemesh.a2a.push import Push
from lakemesh.a2a.task_store import TaskQuery, TaskStore, nanoseconds
from lakemesh.a2a.tasks import TaskRun, Update
from lakemesh.a2a.wire import ENDED
from lakemesh.config.a2a import A2aConfig
from lakemesh.engine.router import AgentRouter, new_execution_id
from lakemesh.errors import LakemeshError
from lakemesh.http import timeout_header
from lakemesh.schemas import AgentInput, Identity, Started

DOOR = "a2a"
DEFAULT_PAGE = 50
GRACE_SECONDS = 60.0
ELSEWHERE = "The task runs on another replica of this server; read it with GetTask."

logger = structlog.get_logger(__name__)


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

    def __init__(self, config: A2aConfig, *, router: AgentRouter, push: Push, store: TaskStore, cards: Cards) -> None:
        self._config = config
        self._router = router
        self._push = push
        self._store = store
        self._cards = cards
        self._running: dict[str, TaskRun] = {}
        self._beginning: dict[tuple[str, str], asyncio.Future[TaskRun]] = {}

    async def send_message(self, request: wire.SendMessage, caller: Caller) -> Update:
        """The task, when it has ended or asks something; its answer alone where the agent answers in messages."""
        run = await self._send(request, caller)
        if isinstance(run, dict):
            return {"task": shortened(run, request.configuration.history_length)}
        if self._answers_in_messages(run):
            return await answer_of(run)
        if not request.configuration.return_immediately:
            await run.wait()
        return {"task": shortened(run.view(), request.configuration.history_length)}

    async def stream_message(self, request: wire.SendMessage, caller: Caller) -> AsyncGenerator[Update]:
        run = await self._send(request, caller)
        if isinstance(run, dict):
            yield {"task": run}
        elif self._answers_in_messages(run):
            yield await answer_of(run)
        else:
            async with aclosing(run.listen(until_asked=True)) as updates:
                async for update in updates:
                    yield update

    async def get_task(self, request: wire.GetTask, caller: Caller) -> dict[str, Any]:
        return shortened(await self._task(request.id, caller), request.history_length)

    async def list_tasks(self, request: wire.ListTasks, caller: Caller) -> dict[str, Any]:
        """The newest first."""
        size = request.page_size or DEFAULT_PAGE
        query = TaskQuery(
            size=size,
            context_id=request.context_id,
            state=request.status or "",
            changed_after_ns=changed_after(request.status_timestamp_after),
            page_token=request.page_token,
        )
        page = await self._store.page(caller.user, query)
        tasks = [run.view() if (run := self._running.get(task["id"])) else task for task in page.tasks]
        if not request.include_artifacts:
            tasks = [{name: value for name, value in task.items() if name != "artifacts"} for task in tasks]
        return {
            "tasks": [shortened(task, request.history_length) for task in tasks],
            "nextPageToken": page.next_page_token,
            "pageSize": size,
            "totalSize": page.total,
        }

    async def cancel_task(self, request: wire.TaskId, caller: Caller) -> dict[str, Any]:
        run = self._run_of(request.id, caller)
        if run is None:
            task = await self._store.load(request.id, caller.user)
            raise TaskNotCancelable("The task has ended." if task["status"]["state"] in ENDED else ELSEWHERE)
        await run.cancel()
        return run.view()

    async def subscribe_to_task(self, request: wire.TaskId, caller: Caller) -> AsyncGenerator[Update]:
        run = self._run_of(request.id, caller)
        if run is None:
            task = await self._store.load(request.id, caller.user)
            ended = task["status"]["state"] in ENDED
            raise UnsupportedOperation("The task has ended; read it with GetTask." if ended else ELSEWHERE)
        async with aclosing(run.listen()) as updates:
            async for update in updates:
                yield update

    async def get_extended_card(self, request: wire.Nothing, caller: Caller) -> dict[str, Any]:
        """With every skill this caller may use."""
        return self._cards.make(caller.identity, caller.base_url())

    async def create_push_config(self, request: wire.NewPushConfig, caller: Caller) -> dict[str, Any]:
        """Of an ended task too: it is kept with it, and nothing comes."""
        before = await self._store.push_configs(request.task_id, caller.user)
        await self._push.check(request)
        config = self._push.named(request, request.task_id, legacy=caller.legacy)
        configs = self._push.joined(before, config)
        await self._store.set_push_configs(request.task_id, caller.user, configs)
        run = self._run_of(request.task_id, caller)
        if run is not None:
            self._push.follow(run, config)
        return shown(config)

    async def get_push_config(self, request: wire.PushConfigId, caller: Caller) -> dict[str, Any]:
        for config in await self._store.push_configs(request.task_id, caller.user):
            if config["id"] == request.id:
                return shown(config)
        raise TaskNotFound(f"The task has no push notification configuration {request.id!r:.80}.")

    async def list_push_configs(self, request: wire.OfTask, caller: Caller) -> dict[str, Any]:
        """All of them: there are at most `push.MAX_CONFIGS`."""
        configs = await self._store.push_configs(request.task_id, caller.user)
        return {"configs": [shown(config) for config in configs]}

    async def delete_push_config(self, request: wire.PushConfigId, caller: Caller) -> None:
        before = await self._store.push_configs(request.task_id, caller.user)
        left = [config for config in before if config["id"] != request.id]
        await self._store.set_push_configs(request.task_id, caller.user, left)
        self._push.stop(request.task_id, request.id)

    async def close(self) -> None:
        """Cancel what still runs, and keep that it was."""
        await asyncio.gather(*(run.cancel() for run in list(self._running.values())))

    async def _send(self, request: wire.SendMessage, caller: Caller) -> TaskRun | dict[str, Any]:
        """The task of this message: the one it answers, the one that the same message began before, or a new one."""
        message = request.message
        if request.configuration.task_push_notification_config is not None:
            await self._push.check(request.configuration.task_push_notification_config)
        if message.task_id:
            return await self._go_on(request, caller)
        key = message_key(request)
        task = await self._store.find(key, caller.user)
        if task is not None:
            return self._run_of(task["id"], caller) or task
        beginning = self._beginning.get((caller.user, key))
        if beginning is not None:
            return await asyncio.shield(beginning)
        self._beginning[caller.user, key] = future = asyncio.get_running_loop().create_future()
        try:
            run = await self._begin(request, caller, key)
            future.set_result(run)
            return run
        except BaseException as error:
            future.set_exception(error if isinstance(error, LakemeshError) else LakemeshError("The request broke off."))
            future.exception()  # nobody may be waiting for it
            raise
        finally:
            del self._beginning[caller.user, key]

    async def _begin(self, request: wire.SendMessage, caller: Caller, key: str) -> TaskRun:
        """A new task. What the engine refuses (limits, policy) is an error, not a task."""
        message = request.message
        agents = self._router.registry.visible_to(caller.identity, DOOR)
        agent = choose_skill(request, agents, self._config.default_skill)
        data = data_of(message, agent.input_schema)
        run = await self._start(request, caller, agent.name, data)
        await self._keep(run, agent.name, key)
        await self._follow(run, request, caller)
        return run

    async def _start(
        self,
        request: wire.SendMessage,
        caller: Caller,
        agent_name: str,
        data: dict[str, Any],
        before: Mapping[str, Any] | None = None,
    ) -> TaskRun:
        """An execution that the engine has taken on, as a task; as the task `before` once more, where there is one."""
        message = request.message
        context_id = before["contextId"] if before else message.context_id or new_execution_id()
        agent_input = AgentInput(
            agent_name=agent_name,
            data=data,
            session_id=context_id,
            timeout_seconds=timeout_header(caller.headers),
            metadata=metadata_of(request),
        )
        parent = caller.trace
        events = self._router.stream(agent_input, identity=caller.identity, door=DOOR, parent=parent)
        started = await anext(events)
        assert isinstance(started, Started)
        task_id = before["id"] if before else started.execution_id
        sent = message.model_dump(by_alias=True, exclude_unset=True)
        return TaskRun(
            task_id=task_id,
            history=[*(before["history"] if before else ()), {**sent, "taskId": task_id, "contextId": context_id}],
            identity=caller.identity,
            events=events,
            on_end=self._ended,
            modes=request.configuration.accepted_output_modes,
            metadata={"execution_id": started.execution_id, "trace_id": started.trace_id, "skill": agent_name},
        )

    async def _keep(self, run: TaskRun, agent_name: str, key: str) -> None:
        """Let the task run once it is kept; where it cannot be, nothing runs."""
        runs_seconds = self._router.registry.get(agent_name).config.timeout_seconds + GRACE_SECONDS
        try:
            await self._store.save(run.view(), run.owner, runs_seconds=runs_seconds, message_key=key)
        except BaseException:
            await run.abandon()
            raise
        self._running[run.id] = run
        run.start()

    async def _go_on(self, request: wire.SendMessage, caller: Caller) -> TaskRun:
        """The task that waits for this message. Raises `UnsupportedOperation` for one that does not."""
        message = request.message
        run = self._run_of(message.task_id, caller)
        task = run.view() if run is not None else await self._store.load(message.task_id, caller.user)
        if message.context_id and message.context_id != task["contextId"]:
            raise InvalidParams("The task is of another context.")
        if run is None:
            return await self._authorized(request, caller, task)
        if not run.questions:
            raise UnsupportedOperation("The task does not wait for a message; it is working.")
        question = run.questions.get(str(message.metadata.get("question_id"))) or next(iter(run.questions.values()))
        answer = None if message.metadata.get("decline") is True else data_of(message, question.schema)
        self._router.answer(question.execution_id, question.question_id, answer, caller.identity)
        sent = message.model_dump(by_alias=True, exclude_unset=True)
        run.note_answer(question.question_id, {**sent, "taskId": run.id, "contextId": run.context_id})
        await self._follow(run, request, caller)
        return run

    async def _authorized(self, request: wire.SendMessage, caller: Caller, task: dict[str, Any]) -> TaskRun:
        """The task that ended for want of authorization, once more: a caller who has it now sent this message."""
        state = task["status"]["state"]
        if state != "TASK_STATE_AUTH_REQUIRED":
            ended = "The task has ended; begin another in its context, and name it in referenceTaskIds."
            raise UnsupportedOperation(ended if state in ENDED else ELSEWHERE)
        schema = self._router.registry.get(task["metadata"]["skill"]).description.input_schema
        first = wire.read(wire.Message, task["history"][0])
        data = {**data_of(request.message, schema), **data_of(first, schema)}
        run = await self._start(request, caller, task["metadata"]["skill"], data, task)
        await self._keep(run, task["metadata"]["skill"], "")
        await self._follow(run, request, caller)
        return run

    async def _follow(self, run: TaskRun, request: wire.SendMessage, caller: Caller) -> None:
        push = request.configuration.task_push_notification_config
        if push is not None:
            config = self._push.named(push, run.id, legacy=caller.legacy)
            configs = self._push.joined(await self._store.push_configs(run.id, caller.user), config)
            await self._store.set_push_configs(run.id, caller.user, configs)
            self._push.follow(run, config)

    async def _ended(self, run: TaskRun) -> None:
        """Keep the end of a task. Where the store does not take it, the store tells the task's end by its time."""
        try:
            configs = await self._store.save(run.view(), run.owner, runs_seconds=0.0)
            self._push.end(run, configs)
        except LakemeshError as error:
            logger.error("a2a task's end not kept", task_id=run.id, reason=error.detail)
        finally:
            self._running.pop(run.id, None)

    async def _task(self, task_id: str, caller: Caller) -> dict[str, Any]:
        """The task as it is now. Raises `TaskNotFound`, also for the tasks of others."""
        run = self._run_of(task_id, caller)
        return run.view() if run is not None else await self._store.load(task_id, caller.user)

    def _answers_in_messages(self, run: TaskRun) -> bool:
        return self._router.registry.get(run.metadata["skill"]).agent.answers_in_messages

    def _run_of(self, task_id: str, caller: Caller) -> TaskRun | None:
        run = self._running.get(task_id)
        return run if run is not None and run.owner == caller.user else None


async def answer_of(run: TaskRun) -> Update:
    """The answer as a message; the task where there is no answer but a failure or a question."""
    await run.wait()
    return {"message": run.message()} if run.state == "TASK_STATE_COMPLETED" else {"task": run.view()}


def message_key(request: wire.SendMessage) -> str:
    """The same message sent again, by a client that did not see its answer, has the same key; another message under an
    id that was used before does not."""
    message = request.message
    body = to_json([message.model_dump(exclude_unset=True), request.metadata])
    return f"{message.message_id}:{hashlib.blake2b(body, digest_size=16).hexdigest()}"


def changed_after(timestamp: str) -> int:
    try:
        return nanoseconds(timestamp) if timestamp else 0
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
