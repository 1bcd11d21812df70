"""Groups by SCIM (RFC 7644), as the workspace offers it."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lakemesh.deadline import Deadline
from lakemesh.lakehouse.databricks.calls import SdkCalls

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

TIMEOUT_SECONDS = 5.0
PLAIN = re.compile(r"[^\"\\\x00-\x1f]{1,256}")
APPLICATION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class WorkspaceDirectory:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._client = client
        self._calls = calls

    async def own_groups(self) -> frozenset[str]:
        deadline = Deadline.after(TIMEOUT_SECONDS)
        me = await self._calls.run(self._client.current_user.me, deadline=deadline, repeatable=True)
        return names_of(me.groups or ())

    async def groups_of(self, user: str) -> frozenset[str]:
        if PLAIN.fullmatch(user) is None:  # it goes into a filter (RFC 7644, section 3.4.2.2)
            return frozenset()
        deadline = Deadline.after(TIMEOUT_SECONDS)
        found = await self._calls.run(lambda: self._find(user), deadline=deadline, repeatable=True)
        return names_of(found.groups or ()) if found is not None else frozenset()

    def _find(self, user: str) -> Any:
        if APPLICATION_ID.fullmatch(user):
            chosen = f'applicationId eq "{user}"'
            return next(iter(self._client.service_principals.list(filter=chosen, attributes="groups")), None)
        chosen = f'userName eq "{user}"'
        return next(iter(self._client.users.list(filter=chosen, attributes="groups")), None)


def names_of(groups: Iterable[Any]) -> frozenset[str]:
    return frozenset(group.display for group in groups if group.display)
