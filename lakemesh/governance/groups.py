"""The groups of callers that the platform names without them: looked up in the workspace, and kept for a while."""

import asyncio
import time

import structlog
from cachetools import TTLCache

from lakemesh.deadline import Deadline
from lakemesh.errors import LakemeshError, Unavailable
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity

logger = structlog.get_logger(__name__)

KEPT_SECONDS = 300.0
STALE_SECONDS = 3_600.0
"""How long groups are used on while the workspace does not answer."""
KEPT_USERS = 10_000
LOOKUP_SECONDS = 5.0


class GroupLookup:
    """One question for each user and `kept_seconds`, however many requests wait for the answer."""

    def __init__(self, workspace: Workspace, *, kept_seconds: float = KEPT_SECONDS) -> None:
        self._workspace = workspace
        self._known: TTLCache[str, frozenset[str]] = TTLCache(KEPT_USERS, kept_seconds, timer=time.monotonic)
        self._stale: TTLCache[str, frozenset[str]] = TTLCache(KEPT_USERS, STALE_SECONDS, timer=time.monotonic)
        self._asking: dict[str, asyncio.Task[frozenset[str]]] = {}

    async def groups_of(self, identity: Identity) -> frozenset[str]:
        """Raises `Unavailable` for a user that was never looked up while the workspace does not answer."""
        known = self._known.get(identity.user)
        if known is not None:
            return known
        task = self._asking.get(identity.user)
        if task is None:
            task = self._asking[identity.user] = asyncio.ensure_future(self._ask(identity))
            task.add_done_callback(lambda _: self._asking.pop(identity.user, None))
        return await asyncio.shield(task)

    async def _ask(self, identity: Identity) -> frozenset[str]:
        try:
            async with Deadline.after(LOOKUP_SECONDS).timeout():
                groups = await self._look_up(identity)
        except (LakemeshError, TimeoutError) as error:
            reason = error.detail if isinstance(error, LakemeshError) else "no answer in time"
            logger.warning("groups not looked up", reason=reason)
            stale = self._stale.get(identity.user)
            if stale is None:
                raise Unavailable("Your groups cannot be looked up now; try again.", retry_after_seconds=5.0) from error
            return stale
        self._known[identity.user] = self._stale[identity.user] = groups
        return groups

    async def _look_up(self, identity: Identity) -> frozenset[str]:
        """By the user's own token where the platform passes one on: that needs no rights of the application."""
        if self._workspace.directory is None:
            return frozenset()
        if identity.token:
            theirs = await self._workspace.on_behalf_of(identity)
            if theirs.directory is not None:
                return await theirs.directory.own_groups()
        return await self._workspace.directory.groups_of(identity.email or identity.user)
