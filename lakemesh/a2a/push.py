"""Push notifications: updates of a task sent to a URL that its owner named (A2A 1.0, section 9.5)."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import stamina
import structlog
from a2a.compat.v0_3.conversions import to_compat_task
from a2a.types.a2a_pb2 import Task, TaskPushNotificationConfig, TaskState, TaskStatusUpdateEvent
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict
from prometheus_client import CollectorRegistry, Counter

from lakemesh.a2a.tasks import TaskRun, Update, snapshot
from lakemesh.errors import InvalidRequest
from lakemesh.outgoing import checked

logger = structlog.get_logger(__name__)

MAX_CONFIGS = 10
MAX_SENDING = 50
ATTEMPTS = 5
TRY_SECONDS = 10.0
ALL_TRIES_SECONDS = 120.0
TRY_AGAIN = frozenset({408, 425, 429})
SERVER_ERROR = 500


class Push:
    """Keeps what tasks' owners asked for and sends it: every change of the status, and the whole task at its end.
    A receiver that fails is tried again for two minutes; what it never took is counted and logged."""

    def __init__(self, *, allow_private: bool, metrics: CollectorRegistry) -> None:
        self._allow_private = allow_private
        self._sent = Counter("lakemesh_a2a_push", "Push notifications, by outcome.", ["outcome"], registry=metrics)
        self._http = httpx.AsyncClient(timeout=TRY_SECONDS, follow_redirects=False)
        self._sending = asyncio.Semaphore(MAX_SENDING)
        self._deliveries: dict[tuple[str, str], tuple[TaskPushNotificationConfig, asyncio.Task[None]]] = {}

    async def check(self, config: TaskPushNotificationConfig) -> None:
        """Raises `InvalidParamsError` for a URL that must not be called."""
        try:
            await checked(config.url, allow_private=self._allow_private)
        except InvalidRequest as error:
            raise InvalidParamsError(error.detail) from None

    def add(self, run: TaskRun, config: TaskPushNotificationConfig, *, legacy: bool) -> TaskPushNotificationConfig:
        """Send the updates of `run` from now on; `legacy` in the form of protocol 0.3. An id that exists is replaced.
        Raises `InvalidParamsError` over `MAX_CONFIGS` of a task."""
        kept = TaskPushNotificationConfig()
        kept.CopyFrom(config)
        kept.id, kept.task_id = config.id or uuid.uuid4().hex, run.task.id
        self.remove(run.task.id, kept.id)
        if len(self.of(run.task.id)) >= MAX_CONFIGS:
            raise InvalidParamsError(f"A task has at most {MAX_CONFIGS} push notification configurations.")
        key = (run.task.id, kept.id)
        self._deliveries[key] = (kept, asyncio.create_task(self._deliver(run, kept, legacy)))
        return kept

    def get(self, task_id: str, config_id: str) -> TaskPushNotificationConfig:
        """Raises `TaskNotFoundError`."""
        found = self._deliveries.get((task_id, config_id))
        if found is None:
            raise TaskNotFoundError(f"The task has no push notification configuration {config_id!r:.80}.")
        return found[0]

    def of(self, task_id: str) -> list[TaskPushNotificationConfig]:
        return [config for (owner, _), (config, _) in self._deliveries.items() if owner == task_id]

    def remove(self, task_id: str, config_id: str) -> None:
        _, task = self._deliveries.pop((task_id, config_id), (None, None))
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        for _, task in self._deliveries.values():
            task.cancel()
        self._deliveries.clear()
        await self._http.aclose()

    async def _deliver(self, run: TaskRun, config: TaskPushNotificationConfig, legacy: bool) -> None:
        """Until the task has ended and the receiver knows; nothing is kept of it then."""
        async with aclosing(notices(run)) as updates:
            async for update in updates:
                await self._send(
                    config, legacy_payload(run.task) if legacy else MessageToDict(to_stream_response(update))
                )

    async def _send(self, config: TaskPushNotificationConfig, payload: dict[str, Any]) -> None:
        try:
            async with self._sending:
                await self._post_until_taken(config, payload)
        except (httpx.HTTPError, InvalidRequest) as error:
            self._sent.labels("failed").inc()
            logger.warning(
                "push notification not taken", task_id=config.task_id, reason=f"{type(error).__name__}: {error}"
            )
        else:
            self._sent.labels("delivered").inc()

    async def _post_until_taken(self, config: TaskPushNotificationConfig, payload: dict[str, Any]) -> None:
        tries = stamina.retry_context(
            on=is_worth_another_try, attempts=ATTEMPTS, timeout=ALL_TRIES_SECONDS, wait_initial=0.5, wait_max=20.0
        )
        async for attempt in tries:
            with attempt:
                await self._post(config, payload)

    async def _post(self, config: TaskPushNotificationConfig, payload: dict[str, Any]) -> None:
        """The URL is checked at every try: what a name leads to changes."""
        to = await checked(config.url, allow_private=self._allow_private)
        headers = {**to.headers, **headers_of(config)}
        response = await self._http.post(to.url, json=payload, headers=headers, extensions=to.extensions)
        response.raise_for_status()


async def notices(run: TaskRun) -> AsyncGenerator[Task | Update]:
    """Of the task's updates, those that are pushed: what it was at first, its status, and all of it at the end."""
    async with aclosing(run.listen()) as updates:
        async for update in updates:
            if isinstance(update, Task):
                yield update
            elif isinstance(update, TaskStatusUpdateEvent):
                yield update if update.status.state == TaskState.TASK_STATE_WORKING else snapshot(run.task)


def legacy_payload(task: Task) -> dict[str, Any]:
    """At 0.3 the whole task, every time."""
    payload: dict[str, Any] = to_compat_task(task).model_dump(mode="json", by_alias=True, exclude_none=True)
    return payload


def headers_of(config: TaskPushNotificationConfig) -> dict[str, str]:
    """By which the receiver knows that the notification is the one it asked for."""
    headers = {"X-A2A-Notification-Token": config.token} if config.token else {}
    authentication = config.authentication
    if authentication.scheme and authentication.credentials:
        headers["Authorization"] = f"{authentication.scheme} {authentication.credentials}"
    return headers


def is_worth_another_try(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= SERVER_ERROR or error.response.status_code in TRY_AGAIN
    return isinstance(error, httpx.TransportError)
