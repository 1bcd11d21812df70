"""Push notifications: updates of a task sent to a URL that its owner named (A2A 1.0, section 9.5)."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from weakref import WeakValueDictionary

import httpx
import stamina
import structlog
from opentelemetry.metrics import Meter
from pydantic_core import to_json

from lakemesh.a2a.errors import InvalidParams
from lakemesh.a2a.legacy import legacy_task
from lakemesh.a2a.signing import Signer
from lakemesh.a2a.task_state import Update
from lakemesh.a2a.tasks import PushConfig as Config
from lakemesh.a2a.tasks import Task
from lakemesh.a2a.wire import PushConfig
from lakemesh.errors import InvalidRequest, LakemeshError, RateLimited
from lakemesh.outgoing import checked

logger = structlog.get_logger(__name__)

MAX_FOLLOWED = 500
"""Deliveries of one user at a time."""
MAX_SENDING, MAX_SENDING_OF_ONE = 200, 8
"""Requests on their way, of all and of one user, whose receivers that hang delay nobody else's."""
ATTEMPTS = 5
TRY_SECONDS = 10.0
ALL_TRIES_SECONDS = 120.0
TRY_AGAIN = frozenset({408, 425, 429})
SERVER_ERROR = 500


class Push:
    """Sends what tasks' owners asked for: every change of the status, and the whole task at its end. A receiver that
    fails is tried again for two minutes; what it never took is counted and logged. What is asked for is kept with the
    task, in its store."""

    def __init__(self, *, allow_private: bool, meter: Meter, signer: Signer | None) -> None:
        self._allow_private = allow_private
        self._signer = signer
        self._sent = meter.create_counter("lakemesh.a2a.push", "{push}", "Push notifications, by outcome.")
        limits = httpx.Limits(max_connections=MAX_SENDING, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(timeout=TRY_SECONDS, follow_redirects=False, limits=limits)
        self._sending = asyncio.Semaphore(MAX_SENDING)
        self._sending_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._followed: dict[str, int] = {}
        self._deliveries: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def check(self, config: PushConfig) -> None:
        """Raises `InvalidParams` for a URL that must not be called."""
        try:
            await checked(config.url, allow_private=self._allow_private)
        except InvalidRequest as error:
            raise InvalidParams(error.detail) from None

    def named(self, asked: PushConfig, task_id: str, *, legacy: bool) -> dict[str, Any]:
        """What is kept of it; `legacy` wants the form of protocol 0.3."""
        config = asked.model_dump(by_alias=True, exclude_defaults=True)
        return {**config, "id": asked.id or uuid.uuid4().hex, "taskId": task_id, "legacy": legacy}

    def follow(
        self,
        task: Task,
        config: Config,
        *,
        goes_on: bool = False,
        may_send: Callable[[], Awaitable[bool]] | None = None,
        on_sent: Callable[[], Awaitable[None]] | None = None,
    ) -> "asyncio.Task[None]":
        """Send the updates of `task` from now on; `goes_on` where the receiver knows how the task is now. `may_send` is
        asked before each, and ends it all; `on_sent` is called after each that was sent, or given up. Raises
        `RateLimited` over `MAX_FOLLOWED` of one user."""
        user, key = task.owner, (task.id, config["id"])
        if self._followed.get(user, 0) >= MAX_FOLLOWED:
            raise RateLimited("Too many of your push notifications are on their way.", retry_after_seconds=10.0)
        self.stop(*key)
        self._followed[user] = self._followed.get(user, 0) + 1
        sending = self._send_updates(task, config, goes_on, may_send or always, on_sent or nothing)
        delivery = self._deliveries[key] = asyncio.create_task(sending)

        def forget(done: asyncio.Task[None]) -> None:
            if self._deliveries.get(key) is done:
                del self._deliveries[key]
            self._followed[user] -= 1
            if not self._followed[user]:
                del self._followed[user]

        delivery.add_done_callback(forget)
        return delivery

    def stop(self, task_id: str, config_id: str) -> None:
        delivery = self._deliveries.get((task_id, config_id))
        if delivery is not None:
            delivery.cancel()

    async def close(self) -> None:
        for delivery in self._deliveries.values():
            delivery.cancel()
        await self._http.aclose()

    async def _send_updates(
        self,
        task: Task,
        config: Config,
        goes_on: bool,
        may_send: Callable[[], Awaitable[bool]],
        on_sent: Callable[[], Awaitable[None]],
    ) -> None:
        try:
            async with aclosing(notices(task)) as updates:
                async for update in updates:
                    if goes_on and "statusUpdate" not in update:
                        goes_on = False
                        continue
                    if not await may_send():
                        return
                    seen = {"task": task.view()} if config["legacy"] or told_whole(update) else update
                    await self._send(task.owner, config, seen)
                    await on_sent()
        except LakemeshError as error:  # the engine refused the task, or the database is away
            logger.info("push notifications broke off", task_id=task.id, reason=error.detail)

    async def _send(self, user: str, config: Config, update: Update) -> None:
        body = to_json(legacy_task(update["task"]) if config["legacy"] else update, inf_nan_mode="null")
        try:
            async with asyncio.timeout(ALL_TRIES_SECONDS):
                await self._post_until_taken(user, config, body)
        except (httpx.HTTPError, InvalidRequest, TimeoutError, ValueError) as error:
            self._sent.add(1, {"outcome": "failed"})
            reason = f"{type(error).__name__}: {error}"[:200]
            logger.warning("push notification not taken", task_id=config["taskId"], reason=reason)
        else:
            self._sent.add(1, {"outcome": "delivered"})

    async def _post_until_taken(self, user: str, config: Config, body: bytes) -> None:
        own = self._sending_of.setdefault(user, asyncio.Semaphore(MAX_SENDING_OF_ONE))
        tries = stamina.retry_context(
            on=is_worth_another_try, attempts=ATTEMPTS, timeout=ALL_TRIES_SECONDS, wait_initial=0.5, wait_max=20.0
        )
        async for attempt in tries:
            with attempt:
                async with own, self._sending, asyncio.timeout(TRY_SECONDS):
                    await self._post(config, body)

    async def _post(self, config: Config, body: bytes) -> None:
        """The URL is checked at every try: what a name leads to changes. Of the answer only the status is read."""
        to = await checked(config["url"], allow_private=self._allow_private)
        headers = {"Content-Type": "application/json", **to.headers, **self._headers(config, body)}
        async with self._http.stream(
            "POST", to.url, content=body, headers=headers, extensions=to.extensions
        ) as response:
            response.raise_for_status()

    def _headers(self, config: Config, body: bytes) -> dict[str, str]:
        """By which the receiver knows that the notification is the one it asked for, and whose it is."""
        headers = {"X-A2A-Notification-Token": config["token"]} if config.get("token") else {}
        authentication = config.get("authentication", {})
        if authentication.get("scheme") and authentication.get("credentials"):
            headers["Authorization"] = f"{authentication['scheme']} {authentication['credentials']}"
        if self._signer is not None:
            token = self._signer.sign_notification(body, audience=config["url"], task_id=config["taskId"])
            headers.setdefault("Authorization", f"Bearer {token}")
            headers["X-A2A-Notification-Signature"] = token
        return headers


async def notices(task: Task) -> AsyncGenerator[Update]:
    """Of the task's updates, those that are pushed: what it was at first, and its status."""
    async with aclosing(task.listen()) as updates:
        async for update in updates:
            if "artifactUpdate" not in update:
                yield update


def told_whole(update: Update) -> bool:
    """Whether the task is sent in place of its status: when it ended, or asks."""
    return "statusUpdate" in update and update["statusUpdate"]["status"]["state"] != "TASK_STATE_WORKING"


def is_worth_another_try(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= SERVER_ERROR or error.response.status_code in TRY_AGAIN
    return isinstance(error, httpx.TransportError | TimeoutError)


async def always() -> bool:
    return True


async def nothing() -> None:
    """There is nobody to tell."""
