"""What each A2A operation does, over the engine."""

import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

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

from lakemesh.a2a.card import make_card
from lakemesh.a2a.parts import choose_skill, data_of
from lakemesh.a2a.push import Push
from lakemesh.a2a.tasks import TaskRun, Tasks, Update, snapshot
from lakemesh.agents.router import AgentRouter
from lakemesh.config.a2a import A2aConfig
from lakemesh.errors import CallerError, LakemeshError
from lakemesh.http import timeout_header, trace_parent
from lakemesh.schemas import AgentInput, Identity

DOOR = "a2a"
DEFAULT_PAGE = 50
MAX_PAGE = 100


class EngineHandler(RequestHandler):
    """A task is an execution of the engine, owned by the identity that asked for it."""

    def __init__(self, config: A2aConfig, *, router: AgentRouter, push: Push) -> None:
        self._config = config
        self._router = router
        self._push = push
        self._tasks = Tasks(max_tasks=config.max_tasks, ttl_seconds=config.task_ttl_seconds)

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
        return shortened(self._tasks.get(params.id, owner_of(context)).task, params)

    @validate_request_params
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """The newest first; the page token is the id of the last task of the page before."""
        found = [task for task in self._tasks.of(owner_of(context)) if wanted(task, params)]
        size = params.page_size or DEFAULT_PAGE
        if not 0 < size <= MAX_PAGE:
            raise InvalidParamsError(f"page_size is 1 to {MAX_PAGE}.")
        start = 0
        if params.page_token:
            ids = [task.id for task in found]
            if params.page_token not in ids:
                raise InvalidParamsError("page_token is not of a page of this list, or is too old.")
            start = ids.index(params.page_token) + 1
        page = found[start : start + size]
        return ListTasksResponse(
            tasks=[shortened(task, params) for task in page],
            next_page_token=page[-1].id if start + size < len(found) else "",
            page_size=size,
            total_size=len(found),
        )

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        run = self._tasks.get(params.id, owner_of(context))
        if run.ended_at is not None:
            raise TaskNotCancelableError("The task has ended.")
        await run.cancel()
        return run.task

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Task | Update]:
        run = self._tasks.get(params.id, owner_of(context))
        if run.ended_at is not None:
            raise UnsupportedOperationError("The task has ended; read it with GetTask.")
        async for update in run.listen():
            yield update

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        """With every skill this caller may use."""
        agents = self._router.registry.visible_to(context.state["identity"], DOOR)
        return make_card(agents, base_url=context.state["base_url"], requires_token=context.state["requires_token"])

    @validate_request_params
    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        run = self._tasks.get(params.task_id, owner_of(context))
        await self._push.check(params)
        return self._push.add(run, params, legacy=is_legacy(context))

    @validate_request_params
    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        return self._push.get(self._tasks.get(params.task_id, owner_of(context)).task.id, params.id)

    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """All of them: there are at most `MAX_CONFIGS`."""
        configs = self._push.of(self._tasks.get(params.task_id, owner_of(context)).task.id)
        return ListTaskPushNotificationConfigsResponse(configs=configs)

    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        self._push.remove(self._tasks.get(params.task_id, owner_of(context)).task.id, params.id)

    async def _start(self, params: SendMessageRequest, context: ServerCallContext) -> TaskRun:
        """A running task. What the engine refuses (limits, policy) is an error, not a task."""
        message = params.message
        require_members(params)
        identity: Identity = context.state["identity"]
        if message.task_id:
            self._tasks.get(message.task_id, identity.user)
            raise UnsupportedOperationError("A task takes one message; send the next with its context_id alone.")
        push = None
        if params.configuration.HasField("task_push_notification_config"):
            push = params.configuration.task_push_notification_config
            await self._push.check(push)
        agent = choose_skill(params, self._router.registry.visible_to(identity, DOOR), self._config.default_skill)
        context_id = message.context_id or uuid.uuid4().hex
        headers = context.state["headers"]
        parent = trace_parent(headers)
        with protocol_errors():
            request = AgentInput(
                agent_name=agent.name,
                data=data_of(message, agent.input_schema),
                session_id=context_id,
                timeout_seconds=timeout_header(headers),
            )
            self._tasks.require_room()
            events = self._router.stream(request, identity=identity, door=DOOR, parent=parent)
            await anext(events)
        task = Task(id=uuid.uuid4().hex, context_id=context_id, status=TaskStatus(state=TaskState.TASK_STATE_WORKING))
        task.status.timestamp.GetCurrentTime()
        task.history.append(message)
        task.history[0].task_id, task.history[0].context_id = task.id, context_id
        run = TaskRun(task, identity.user, events)
        self._tasks.add(run)
        if push is not None:
            self._push.add(run, push, legacy=is_legacy(context))
        return run


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
    """A copy with as many messages of its history as were asked for."""
    copy = snapshot(task)
    if params.HasField("history_length"):
        kept = list(copy.history)[len(copy.history) - min(params.history_length, len(copy.history)) :]
        del copy.history[:]
        copy.history.extend(kept)
    return copy


def wanted(task: Task, params: ListTasksRequest) -> bool:
    after = params.status_timestamp_after
    return (
        (not params.context_id or task.context_id == params.context_id)
        and (not params.status or task.status.state == params.status)
        and (after.ToNanoseconds() == 0 or task.status.timestamp.ToNanoseconds() >= after.ToNanoseconds())
    )
