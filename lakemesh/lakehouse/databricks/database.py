"""Lakebase: PostgreSQL of the workspace. Passwords are credentials that the workspace issues for an hour, to the
principal whose name is the PostgreSQL user; a new one is asked for when half of its time is over.

Both kinds are read: a provisioned instance (`LAKEMESH_LAKEBASE_INSTANCE`, by name) and an autoscaling endpoint
(`LAKEBASE_AUTOSCALING_ENDPOINT`, `projects/<p>/branches/<b>/endpoints/<e>`). Databricks Apps sets `PGHOST`, `PGPORT`,
`PGDATABASE`, `PGUSER` and `PGSSLMODE` for a declared database resource; what they do not say is asked of the workspace.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakemesh.deadline import Deadline
from lakemesh.errors import DatabaseUnavailable, LakemeshError
from lakemesh.lakehouse.database import CONNECT_SECONDS, Database
from lakemesh.lakehouse.databricks.calls import SdkCalls

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

DATABASE_NAME = "databricks_postgres"
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A password, when it was issued and when to ask for the next one, both on the monotonic clock."""

    password: str = field(repr=False)
    issued_at: float
    renew_at: float


class Lakebase:
    """How to connect to one Lakebase database now."""

    def __init__(
        self,
        client: "WorkspaceClient",
        calls: SdkCalls,
        *,
        instance: str | None = None,
        endpoint: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._calls = calls
        self._instance = instance
        self._endpoint = endpoint
        self._variables = os.environ if variables is None else variables
        self._host: str | None = None
        self._user: str | None = None
        self._credential: Credential | None = None
        self._issuing = asyncio.Lock()

    async def connection_string(self) -> str:
        """Raises `DatabaseUnavailable` when the workspace does not give a host or a credential."""
        from psycopg.conninfo import make_conninfo

        try:
            host = await self._resolved_host()
            user = await self._resolved_user()
            password = await self._password()
        except LakemeshError as error:
            raise DatabaseUnavailable(f"Lakebase cannot be reached: {error.detail}") from error
        return make_conninfo(
            host=host,
            port=self._variables.get("PGPORT", "5432"),
            dbname=self._variables.get("PGDATABASE", DATABASE_NAME),
            user=user,
            password=password,
            sslmode=self._variables.get("PGSSLMODE", "require"),
        )

    def refused(self) -> None:
        """Ask for another credential, and for the host again, unless they are new: a database that is away must not
        make every attempt to reach it a request for one."""
        if self._credential is not None and time.monotonic() - self._credential.issued_at > FRESH_SECONDS:
            self._credential = self._host = None

    async def _resolved_host(self) -> str:
        self._host = self._host or self._variables.get("PGHOST") or await self._ask(self._host_of_workspace)
        return self._host

    def _host_of_workspace(self) -> str:
        if self._endpoint is not None:
            status = self._client.postgres.get_endpoint(self._endpoint).status
            host = status.hosts.host if status and status.hosts else None
        else:
            host = self._client.database.get_database_instance(self._instance or "").read_write_dns
        if not host:
            raise DatabaseUnavailable("Lakebase has no host yet; its instance is starting.")
        return str(host)

    async def _resolved_user(self) -> str:
        self._user = self._user or self._variables.get("PGUSER") or await self._ask(self._user_of_workspace)
        return self._user

    def _user_of_workspace(self) -> str:
        return str(self._client.current_user.me().user_name)

    async def _password(self) -> str:
        async with self._issuing:
            if self._credential is None or time.monotonic() >= self._credential.renew_at:
                self._credential = await self._ask(self._issued)
            return self._credential.password

    def _issued(self) -> Credential:
        issued: Any
        if self._endpoint is not None:
            issued = self._client.postgres.generate_database_credential(self._endpoint)
            expires = issued.expire_time.ToDatetime(UTC) if issued.expire_time else None
        else:
            issued = self._client.database.generate_database_credential(instance_names=[self._instance or ""])
            expires = datetime.fromisoformat(issued.expiration_time) if issued.expiration_time else None
        lifetime = (expires - datetime.now(UTC)).total_seconds() if expires is not None else 900.0
        now = time.monotonic()
        return Credential(str(issued.token), now, now + max(lifetime / 2, 1.0))

    async def _ask(self, question: Callable[[], Any]) -> Any:
        return await self._calls.run(question, deadline=Deadline.after(2 * CONNECT_SECONDS))


def open_lakebase(
    client: "WorkspaceClient", calls: SdkCalls, *, instance: str | None, endpoint: str | None
) -> Database:
    return Database(Lakebase(client, calls, instance=instance, endpoint=endpoint))
