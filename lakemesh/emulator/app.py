"""The emulator, put together."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import Response

from lakemesh.emulator import (
    app_proxy,
    apps,
    catalog,
    dashboards,
    faults,
    files,
    genie,
    identity,
    jobs,
    lakebase,
    permissions,
    secrets,
    serving,
    statements,
    vector_search,
    workspace_files,
)
from lakemesh.emulator.errors import ApiError, answer_api_error, answer_lakemesh_error
from lakemesh.emulator.genie import Space
from lakemesh.emulator.sql import Sql
from lakemesh.emulator.state import State
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.workspace import Workspace

OPEN_PATHS = ("/.well-known/", "/oidc/", "/emulator/")
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
UNKEPT_PATHS = ("/api/2.0/fs/", "/serving-endpoints/", "/emulator/")
"""Where changes are the embedded workspace's, which keeps them itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Users by personal access token, service principals with their secrets, and who of them may do everything."""

    tokens: Mapping[str, str] = field(default_factory=lambda: {"emulator-token": "admin@example.com"})
    principals: Mapping[str, str] = field(default_factory=lambda: {"emulator-client": "emulator-secret"})
    admins: frozenset[str] = frozenset({"admin@example.com", "emulator-client"})


def create_emulator(
    workspace: Workspace,
    *,
    home: Path,
    accounts: Accounts | None = None,
    spaces: Sequence[Space] = (),
    latency_seconds: float = 0.0,
    warehouse_start_seconds: float = 0.0,
) -> FastAPI:
    """A workspace's REST API over the embedded `workspace`, which stays the caller's to close, and whose folder is
    `home`: what the API knows besides is kept there.

    `latency_seconds` is added to every request; the first statement waits `warehouse_start_seconds` more.
    """
    accounts = accounts or Accounts()
    state = State(home)
    tokens = identity.Tokens(accounts.tokens, accounts.principals, state.section("principals"))
    grants = identity.Grants(accounts.admins, state.section("grants"))
    unity = catalog.Catalog(state.section("catalog"))
    tree = workspace_files.Tree(home / "workspace-files")
    scopes = secrets.Secrets(state.section("secrets"), accounts.admins)
    deployed = apps.Apps(home, state, tree=tree, tokens=tokens, grants=grants, secret_scopes=scopes)
    client = httpx.AsyncClient(timeout=app_proxy.TIMEOUT_SECONDS)
    record = faults.Record(latency_seconds)
    postgres = lakebase.Lakebase(home, state.section("lakebase"))
    sql = statements.Statements(Sql(workspace, unity, grants), start_seconds=warehouse_start_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await deployed.resume()
        yield
        sql.close()
        await postgres.close()
        await deployed.close()
        await client.aclose()
        state.save()

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
        answer = await call_next(request)
        if request.method in CHANGING and not request.url.path.startswith(UNKEPT_PATHS):
            state.save()
        return answer

    app.add_middleware(faults.Faults, record=record)
    for router in (
        identity.routes(tokens, grants),
        faults.routes(record),
        files.routes(workspace.volumes, grants),
        statements.routes(sql),
        catalog.routes(workspace, unity, grants),
        vector_search.routes(workspace.indexes, grants, state.section("search")),
        serving.routes(workspace.endpoints, state.section("serving_endpoints")),
        genie.routes({space.space_id: space for space in spaces}, sql),
        lakebase.routes(postgres),
        jobs.routes(state.section("jobs")),
        workspace_files.routes(tree),
        apps.routes(deployed),
        app_proxy.routes(tokens, deployed.process, client),
        secrets.routes(scopes),
        dashboards.routes(state.section("dashboards"), state.section("alerts")),
        permissions.routes(state.section("permissions"), {"apps": deployed.app}),
    ):
        app.include_router(router)
    return app
