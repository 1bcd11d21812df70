"""The emulator, put together."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.responses import Response

from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.emulator import (
    apps,
    catalog,
    faults,
    files,
    genie,
    identity,
    jobs,
    secrets,
    serving,
    statements,
    vector_search,
    workspace_files,
)
from lakemesh.lakehouse.emulator.errors import ApiError, answer_api_error, answer_lakemesh_error
from lakemesh.lakehouse.emulator.genie import Space
from lakemesh.lakehouse.emulator.sql import Sql
from lakemesh.lakehouse.workspace import Workspace

OPEN_PATHS = ("/.well-known/", "/oidc/", "/emulator/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Users by personal access token, service principals with their secrets, and who of them may do everything."""

    tokens: Mapping[str, str] = field(default_factory=lambda: {"emulator-token": "admin@example.com"})
    principals: Mapping[str, str] = field(default_factory=lambda: {"emulator-client": "emulator-secret"})
    admins: frozenset[str] = frozenset({"admin@example.com", "emulator-client"})


def create_emulator(
    workspace: Workspace,
    *,
    accounts: Accounts | None = None,
    spaces: Sequence[Space] = (),
    latency_seconds: float = 0.0,
    warehouse_start_seconds: float = 0.0,
) -> FastAPI:
    """A workspace's REST API over the embedded `workspace`, which stays the caller's to close.

    `latency_seconds` is added to every request; the first statement waits `warehouse_start_seconds` more.
    """
    accounts = accounts or Accounts()
    tokens = identity.Tokens(accounts.tokens, accounts.principals)
    grants = identity.Grants(accounts.admins)
    unity = catalog.Catalog()
    record = faults.Record(latency_seconds)
    sql = statements.Statements(Sql(workspace, unity, grants), start_seconds=warehouse_start_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        sql.close()

    app = FastAPI(
        lifespan=lifespan,
        title="lakemesh workspace emulator",
        exception_handlers={ApiError: answer_api_error, LakemeshError: answer_lakemesh_error},
    )

    @app.middleware("http")
    async def authenticate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if not request.url.path.startswith(OPEN_PATHS):
            try:
                request.state.user = tokens.user_of(request.headers.get("authorization"))
            except ApiError as error:
                return await answer_api_error(request, error)
        return await call_next(request)

    app.add_middleware(faults.Faults, record=record)
    for router in (
        identity.routes(tokens, grants),
        faults.routes(record),
        files.routes(workspace.volumes, grants),
        statements.routes(sql),
        catalog.routes(workspace, unity, grants),
        vector_search.routes(workspace.indexes, grants),
        serving.routes(workspace.endpoints),
        genie.routes({space.space_id: space for space in spaces}, sql),
        jobs.routes(),
        workspace_files.routes(),
        apps.routes(),
        secrets.routes(),
    ):
        app.include_router(router)
    return app
