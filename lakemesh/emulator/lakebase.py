"""Lakebase: instances, endpoints and the credentials that open them, in front of one real PostgreSQL.

Shapes: `/api/2.0/database/instances`, `/api/2.0/database/credentials` (provisioned) and
`/api/2.0/postgres/projects/.../endpoints`, `/api/2.0/postgres/credentials` (autoscaling), as databricks-sdk 0.156's
`DatabaseAPI` and `PostgresAPI` speak them. The server is the laptop's own, reached through TLS and by password alone; a
credential is a password that PostgreSQL itself refuses when its hour is over, or when it was withdrawn.
"""

import asyncio
import datetime as dt
import secrets
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.emulator.postgres_tls import TlsFront
from lakemesh.lakehouse.embedded.database import LocalPostgres

CREDENTIAL_SECONDS = 3_600
DATABASE_NAME = "databricks_postgres"
HOST = "127.0.0.1"
ADMIN = "postgres"
HBA = f"local all {ADMIN} trust\nlocal all all scram-sha-256\n"


class Lakebase:
    """The PostgreSQL of the emulated workspace, started with the first instance or endpoint that is asked for."""

    def __init__(self, home: Path, kept: dict[str, Any]) -> None:
        self._folder = home / "lakebase"
        self._instances = kept
        self._server = LocalPostgres(self._folder)
        self._front: TlsFront | None = None
        self._starting = asyncio.Lock()
        self._issuing = asyncio.Lock()
        self._credentials: dict[str, tuple[str, dt.datetime]] = {}
        self._uri = ""

    @property
    def port(self) -> int:
        return self._front.port if self._front is not None else 0

    def create(self, name: str, capacity: str) -> dict[str, Any]:
        if name in self._instances:
            raise ApiError(409, f"Instance {name!r} already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        self._instances[name] = {"name": name, "uid": secrets.token_hex(8), "capacity": capacity}
        return self.instance(name)

    def instance(self, name: str) -> dict[str, Any]:
        if name not in self._instances:
            raise not_found(f"Database instance {name!r} does not exist.")
        return {**self._instances[name], "state": "AVAILABLE", "read_write_dns": HOST, "port": self.port}

    def remove(self, name: str) -> None:
        self.instance(name)
        del self._instances[name]

    async def running(self) -> None:
        async with self._starting:
            if self._front is None:
                self._uri = await self._server.connection_string()
                await asyncio.to_thread(self._prepare)
                self._front = await TlsFront.listen(HOST, self._folder)

    async def credential(self, user: str) -> tuple[str, dt.datetime]:
        """A password for the user, the same until half of its hour is over: replicas ask one by one, PostgreSQL keeps
        one password a role, and Lakebase accepts every token that has not expired."""
        await self.running()
        async with self._issuing:
            now = dt.datetime.now(dt.UTC)
            password, until = self._credentials.get(user, ("", now))
            if (until - now).total_seconds() < CREDENTIAL_SECONDS / 2:
                password, until = secrets.token_hex(24), now + dt.timedelta(seconds=CREDENTIAL_SECONDS)
                await asyncio.to_thread(self._set_password, user, password, until)
                self._credentials[user] = (password, until)
            return password, until

    async def withdraw(self) -> int:
        """Every credential that was given out is refused from now on, and its connections end."""
        async with self._issuing:
            users, self._credentials = list(self._credentials), {}
            for user in users:
                await asyncio.to_thread(self._set_password, user, secrets.token_hex(24), dt.datetime.now(dt.UTC))
            return len(users)

    async def close(self) -> None:
        if self._front is not None:
            await self._front.close()
        await asyncio.to_thread(self._server.stop)

    def _prepare(self) -> None:
        import psycopg

        (self._folder / "pg_hba.conf").write_text(HBA)
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE_NAME,)).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {DATABASE_NAME}")

    def _set_password(self, user: str, password: str, until: dt.datetime) -> None:
        import psycopg
        from psycopg import sql

        role = sql.Identifier(user)
        with psycopg.connect(self._uri, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (user,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
                connection.execute(
                    sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(sql.Identifier(DATABASE_NAME), role)
                )
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {} VALID UNTIL {}").format(
                    role, sql.Literal(password), sql.Literal(until.isoformat())
                )
            )
            if until <= dt.datetime.now(dt.UTC):
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (user,))


def routes(lakebase: Lakebase) -> APIRouter:
    router = APIRouter()

    @router.post("/api/2.0/database/instances")
    async def create_instance(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        if not body.get("name"):
            raise ApiError(400, "The instance needs a name.")
        await lakebase.running()
        return lakebase.create(body["name"], body.get("capacity", "CU_1"))

    @router.get("/api/2.0/database/instances/{name}")
    async def get_instance(name: str) -> dict[str, Any]:
        return lakebase.instance(name)

    @router.delete("/api/2.0/database/instances/{name}")
    async def delete_instance(name: str) -> dict[str, Any]:
        lakebase.remove(name)
        return {}

    @router.post("/api/2.0/database/credentials")
    async def issue_for_instances(request: Request) -> dict[str, Any]:
        for name in body_of(await request.body()).get("instance_names") or [""]:
            lakebase.instance(name)
        token, until = await lakebase.credential(request.state.user)
        return {"token": token, "expiration_time": until.isoformat().replace("+00:00", "Z")}

    @router.get("/api/2.0/postgres/projects/{project}/branches/{branch}/endpoints/{endpoint}")
    async def get_endpoint(project: str, branch: str, endpoint: str) -> dict[str, Any]:
        await lakebase.running()
        name = f"projects/{project}/branches/{branch}/endpoints/{endpoint}"
        hosts = {"host": HOST, "port": lakebase.port}
        status = {"hosts": hosts, "current_state": "ACTIVE", "endpoint_type": "ENDPOINT_TYPE_READ_WRITE"}
        return {"name": name, "status": status}

    @router.post("/api/2.0/postgres/credentials")
    async def issue_for_endpoint(request: Request) -> dict[str, Any]:
        if not body_of(await request.body()).get("endpoint"):
            raise ApiError(400, "The credential needs an endpoint.")
        token, until = await lakebase.credential(request.state.user)
        return {"token": token, "expire_time": until.isoformat().replace("+00:00", "Z")}

    @router.delete("/emulator/lakebase/credentials")
    async def withdraw_credentials() -> dict[str, int]:
        return {"withdrawn": await lakebase.withdraw()}

    @router.get("/emulator/lakebase")
    async def address() -> dict[str, Any]:
        """Where it listens; the platform's own answers name a host only, since its port is always 5432."""
        await lakebase.running()
        return {"host": HOST, "port": lakebase.port, "database": DATABASE_NAME}

    return router
