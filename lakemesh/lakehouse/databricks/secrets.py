"""Secrets through the Secrets API."""

import base64
from typing import TYPE_CHECKING

from lakemesh.lakehouse.databricks.calls import SdkCalls
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

TIMEOUT_SECONDS = 15.0


class WorkspaceSecrets:
    def __init__(self, client: "WorkspaceClient", calls: SdkCalls) -> None:
        self._api = client.secrets
        self._calls = calls

    async def get(self, scope: str, key: str) -> str:
        deadline = current_deadline(TIMEOUT_SECONDS)
        secret = await self._calls.run(lambda: self._api.get_secret(scope, key), deadline=deadline, repeatable=True)
        return base64.b64decode(secret.value or "").decode()
