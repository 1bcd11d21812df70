"""What each A2A operation does, over the engine."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields

from lakemesh.a2a.card import make_card, sign
from lakemesh.a2a.parts import choose_skill, data_of
from lakemesh.a2a.push import Push
from lakemesh.a2a.task_store import ENDED, TaskQuery, TaskStore
from lakemesh.a2a.tasks import TaskRun, Update, snapshot
from lakemesh.config.a2a import A2aConfig
from lakemesh.engine.router import AgentRouter, new_execution_id
from lakemesh.errors import CallerError, LakemeshError
from lakemesh.http import timeout_header, trace_parent
from lakemesh.schemas import AgentInput, Identity

DOOR = "a2a"
DEFAULT_PAGE = 50
MAX_PAGE = 100
GRACE_SECONDS = 60.0
ELSEWHERE = "The task runs on another replica of this server; read it with GetTask."

logger = structlog.get_logger(__name__)


class EngineHandler(RequestHandler):
    """A task is an execution of the engine, owned by the identity that asked for it."""

    def __init__(self, config: A2aConfig, *, router: AgentRouter, push: Push, store: TaskStore) -> None:
        self._config = config
        self._router = router
        self._push = push
        self._store = store
        self._running: dict[str, TaskRun] = {}

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task:
        run = await self._start(params, context)
        if not params.configuration.return_immediately:
            await run.wait()
        return shortened(run.task, params.configuration)

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Task | Update]:
        run = await self._start(params, context)
        async for update in run.listen():
            yield update

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        return shortened(await self._task(params.id, context), params)

    @validate_request_params
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """The newest first."""
        size = params.page_size or DEFAULT_PAGE
        if not 0 < size <= MAX_PAGE:
            raise InvalidParamsError(f"page_size is 1 to {MAX_PAGE}.")
        query = TaskQuery(
            size=size,
            context_id=params.context_id,
            state=params.status,
            changed_after_ns=params.status_timestamp_after.ToNanoseconds(),
            page_token=params.page_token,
        )
        page = await self._store.page(owner_of(context), query)
        return ListTasksResponse(
            tasks=[shortened(task, params) for task in page.tasks],
            next_page_token=page.next_page_token,
            page_size=size,
            total_size=page.total,
        )

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        run = self._running.get(params.id)
        if run is None or run.owner != owner_of(context):
            task = await self._store.load(params.id, owner_of(context))
            raise TaskNotCancelableError("The task has ended." if task.status.state in ENDED else ELSEWHERE)
        await run.cancel()
        return run.task

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Task | Update]:
        run = await self._run(params.id, context)
        async for update in run.listen():
            yield update

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        """With every skill this caller may use."""
        agents = self._router.registry.visible_to(context.state["identity"], DOOR)
        state = context.state
        return sign(
            make_card(agents, base_url=state["base_url"](), requires_token=state["requires_token"]), self._config
        )

    @validate_request_params
    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        run = await self._run(params.task_id, context)
        await self._push.check(params)
        return self._push.add(run, params, legacy=is_legacy(context))

    @validate_request_params
    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        return self._push.get((await self._task(params.task_id, context)).id, params.id)

    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """All of them: there are at most `MAX_CONFIGS`."""
        configs = self._push.of((await self._task(params.task_id, context)).id)
        return ListTaskPushNotificationConfigsResponse(configs=configs)

    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        self._push.remove((await self._task(params.task_id, context)).id, params.id)

    async def _start(self, params: SendMessageRequest, context: ServerCallContext) -> TaskRun:
        """A running task. What the engine refuses (limits, policy) is an error, not a task."""
        message = params.message
        require_members(params)
        identity: Identity = context.state["identity"]
        if message.task_id:
            await self._task(message.task_id, context)
            raise UnsupportedOperationError("A task takes one message; send the next with its context_id alone.")
        push = None
        if params.configuration.HasField("task_push_notification_config"):
            push = params.configuration.task_push_notification_config
            await self._push.check(push)
        agent = choose_skill(params, self._router.registry.visible_to(identity, DOOR), self._config.default_skill)
        context_id = message.context_id or new_execution_id()
        headers = context.state["headers"]
        parent = trace_parent(headers)
        with protocol_errors():
            request = AgentInput(
                agent_name=agent.name,
                data=data_of(message, agent.input_schema),
                session_id=context_id,
                timeout_seconds=timeout_header(headers),
            )
            task = new_task(message, context_id)
            runs_seconds = self._router.registry.get(agent.name).config.timeout_seconds + GRACE_SECONDS
            events = self._router.stream(request, identity=identity, door=DOOR, parent=parent)
            await anext(events)
        try:
            with protocol_errors():
                await self._store.save(task, identity.user, runs_seconds=runs_seconds)
        except A2AError:
            await events.aclose()
            raise
        run = self._running[task.id] = TaskRun(task, identity.user, events, self._ended)
        if push is not None:
            self._push.add(run, push, legacy=is_legacy(context))
        return run

    async def _ended(self, run: TaskRun) -> None:
        """Keep the end of a task. Where the store does not take it, the store tells the task's end by its time."""
        del self._running[run.task.id]
        try:
            await self._store.save(run.task, run.owner, runs_seconds=0.0)
        except A2AError as error:
            logger.error("a2a task's end not kept", task_id=run.task.id, reason=str(error))

    async def _task(self, task_id: str, context: ServerCallContext) -> Task:
        """The task as it is now. Raises `TaskNotFoundError`, also for the tasks of others."""
        run = self._running.get(task_id)
        if run is not None and run.owner == owner_of(context):
            return run.task
        return await self._store.load(task_id, owner_of(context))

    async def _run(self, task_id: str, context: ServerCallContext) -> TaskRun:
        """The task, which still runs here. Raises `TaskNotFoundError` or `UnsupportedOperationError`."""
        run = self._running.get(task_id)
        if run is not None and run.owner == owner_of(context):
            return run
        task = await self._store.load(task_id, owner_of(context))
        ended = task.status.state in ENDED
        raise UnsupportedOperationError("The task has ended; read it with GetTask." if ended else ELSEWHERE)


def new_task(message: Message, context_id: str) -> Task:
    task = Task(id=new_execution_id(), context_id=context_id, status=TaskStatus(state=TaskState.TASK_STATE_WORKING))
    task.status.timestamp.GetCurrentTime()
    task.history.append(message)
    task.history[0].task_id, task.history[0].context_id = task.id, context_id
    return task


def require_members(params: SendMessageRequest) -> None:
    """What the protocol requires of a message. The SDK's own check reads every descriptor of every part again, which
    costs as much as the rest of the request. Raises `InvalidParamsError`."""
    message = params.message
    required = {"messageId": message.message_id, "role": message.role, "parts": message.parts}
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise InvalidParamsError(f"The message has no {', '.join(missing)}.")
    if params.HasField("configuration"):
        validate_proto_required_fields(params.configuration)


@contextmanager
def protocol_errors() -> Iterator[None]:
    try:
        yield
    except LakemeshError as error:
        raise a2a_error(error) from None


def a2a_error(error: LakemeshError) -> A2AError:
    """A2A has no codes for limits and policy; the stable code travels in `data`."""
    kind = InvalidParamsError if isinstance(error, CallerError) else InternalError
    return kind(error.detail, data={"code": error.code})


def is_legacy(context: ServerCallContext) -> bool:
    version: str = context.state["headers"].get("a2a-version", "0.3")
    return version.startswith("0.")


def owner_of(context: ServerCallContext) -> str:
    identity: Identity = context.state["identity"]
    return identity.user


def shortened(task: Task, params: Any) -> Task:
    """The task with as many messages of its history as were asked for; itself when nothing was."""
    if not params.HasField("history_length"):
        return task
    copy = snapshot(task)
    kept = list(copy.history)[len(copy.history) - min(params.history_length, len(copy.history)) :]
    del copy.history[:]
    copy.history.extend(kept)
    return copy
