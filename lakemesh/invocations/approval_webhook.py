"""Tells persons, by a webhook, that something waits for them."""

import asyncio
from urllib.parse import quote

import httpx
import structlog
from pydantic_core import to_json

from lakemesh.config.approvals import ApprovalWebhookConfig
from lakemesh.config.schema import Config
from lakemesh.errors import InvalidRequest, LakemeshError
from lakemesh.governance.approval_messages import VERBS, decision_token, message_of, signed_headers
from lakemesh.invocations.approvals import APPROVALS_TOPIC, PendingApproval
from lakemesh.invocations.service import Invocations
from lakemesh.lakehouse.notifications import Notifications
from lakemesh.outgoing import checked

logger = structlog.get_logger(__name__)

TRY_SECONDS = 10.0
AGAIN_SECONDS = 60.0
"""When what nobody was told of is looked for without being woken: the message of a process that died, or failed."""


class ApprovalWebhook:
    """Sends a message for each approval, once it is taken; one that is not is sent again every minute, by any replica,
    for as long as there is something to decide."""

    def __init__(self, invocations: Invocations, notifications: Notifications, config: Config) -> None:
        self._invocations = invocations
        self._desk = invocations.approvals
        self._notifications = notifications
        self._http = httpx.AsyncClient(timeout=TRY_SECONDS, follow_redirects=False)
        self._task: asyncio.Task[None] | None = None
        self.configure(config)

    def configure(self, config: Config) -> None:
        self._config = config.approvals.webhook
        self._console = (config.server.public_url or "").rstrip("/")

    def begin(self) -> None:
        self._task = asyncio.ensure_future(self._tell_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._http.aclose()

    async def _tell_for_ever(self) -> None:
        await self._invocations.started()
        with self._notifications.subscribe(APPROVALS_TOPIC) as woken:
            while True:
                try:
                    async with asyncio.timeout(AGAIN_SECONDS):
                        await woken.wait()
                except TimeoutError:
                    pass
                woken.clear()
                if self._config is None:
                    continue
                try:
                    for pending in await self._desk.claim_untold():
                        await self._tell(pending, self._config)
                except LakemeshError as error:
                    logger.warning("approvals not looked for", reason=error.detail)

    async def _tell(self, pending: PendingApproval, config: ApprovalWebhookConfig) -> None:
        body = to_json(self._message(pending, config))
        try:
            to = await checked(config.url, allow_private=config.to_private)
            headers = {**signed_headers(config.secret.get_secret_value(), body), **to.headers}
            request = self._http.build_request(
                "POST", to.url, content=body, headers=headers, extensions=dict(to.extensions)
            )
            (await self._http.send(request)).raise_for_status()
        except (httpx.HTTPError, InvalidRequest, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            logger.warning("nobody told of an approval", approval=str(pending.id), reason=reason)
            return
        await self._desk.note_told(pending.id)

    def _message(self, pending: PendingApproval, config: ApprovalWebhookConfig) -> object:
        secret, expires_at = config.secret.get_secret_value(), int(pending.expires_at.timestamp())
        tokens = {verb: decision_token(secret, pending.id, verb, expires_at) for verb in VERBS}
        page = f"{self._console}/#approvals/{pending.id}?token="
        links = {verb: f"{page}{quote(token)}" for verb, token in tokens.items()} if self._console else {}
        return message_of(pending.to_dict(), links, tokens if config.users else {})
