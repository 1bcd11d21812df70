"""The emulator, put together."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
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
    guard,
    identity,
    jobs,
    lakebase,
    permissions,
    pipelines,
    repos,
    secrets,
    serving,
    statements,
    vector_search,
    workspace_files,
)
from lakemesh.emulator.accounts import Accounts
from lakemesh.emulator.errors import ApiError, answer_api_error, answer_lakemesh_error
from lakemesh.emulator.genie import Space
from lakemesh.emulator.registered_models import RegisteredModels
from lakemesh.emulator.sql import Sql
from lakemesh.emulator.state import State
from lakemesh.errors import LakemeshError
from lakemesh.lakehouse.embedded.workspace_files import FolderFiles
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.pipelines.local import LocalPipelines
from lakemesh.pipelines.spark.process import Spark

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
UNKEPT_PATHS = ("/api/2.0/fs/", "/serving-endpoints/", "/emulator/")
"""Where changes are the embedded workspace's, which keeps them itself."""


def create_emulator(
    workspace: Workspace,
    *,
    home: Path,
    accounts: Accounts,
    hosts: Collection[str] = (),
    spaces: Sequence[Space] = (),
    latency_seconds: float = 0.0,
    warehouse_start_seconds: float = 0.0,
    spark: Path = Path(".cache/spark"),
) -> FastAPI:
    """A workspace's REST API over the embedded `workspace`, which stays the caller's to close, and whose folder is
    `home`: what the API knows besides is kept there.

    `hosts` are names it is reached by besides loopback's.
    Pipelines run in the Spark environment `spark` (`make spark`), and fail without it.
    `latency_seconds` is added to every request; the first statement waits `warehouse_start_seconds` more.
    """
    state = State(home)
    tokens = identity.Tokens(accounts.tokens, accounts.principals, state.section("principals"))
    grants = identity.Grants(accounts.admins, state.section("grants"))
    unity = catalog.Catalog(state.section("catalog"))
    tree = workspace_files.Tree(home / "workspace-files")
    scopes = secrets.Secrets(state.section("secrets"), accounts.admins)
    endpoints = serving.EndpointCatalog(state.section("serving_endpoints"), state.section("ai_gateways"))
    deployed = apps.Apps(
        home, state, tree=tree, tokens=tokens, grants=grants, secret_scopes=scopes, endpoints=endpoints
    )
    client = httpx.AsyncClient(timeout=app_proxy.TIMEOUT_SECONDS)
    record = faults.Record(latency_seconds)
    postgres = lakebase.Lakebase(home, state.section("lakebase"))
    local = LocalPipelines(
        state.section("pipelines"),
        files=FolderFiles(home / "workspace-files"),
        workspace=workspace,
        spark=Spark(spark),
        save=state.save,
    )
    sql = statements.Statements(Sql(workspace, unity, grants), start_seconds=warehouse_start_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await deployed.resume()
        yield
        sql.close()
        await local.close()
        await postgres.close()
        await deployed.close()
        await client.aclose()
        state.save()
        state.close()

    app = FastAPI(
        lifespan=lifespan,
        title="lakemesh workspace emulator",
        exception_handlers={ApiError: answer_api_error, LakemeshError: answer_lakemesh_error},
    )

    @app.middleware("http")
    async def keep_changes(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await call_next(request)
        if request.method in CHANGING and not request.url.path.startswith(UNKEPT_PATHS):
            state.save()
        return answer

    app.middleware("http")(guard.authenticated(tokens, accounts.admins))
    app.add_middleware(faults.Faults, record=record)
    app.add_middleware(guard.HostGuard, hosts=hosts)
    for router in (
        identity.routes(tokens, grants),
        faults.routes(record),
        files.routes(workspace.volumes, grants),
        statements.routes(sql),
        catalog.routes(workspace, unity, grants),
        vector_search.routes(workspace, grants, state.section("search")),
        serving.routes(workspace.endpoints, endpoints, RegisteredModels(workspace.volumes)),
        genie.routes({space.space_id: space for space in spaces}, sql),
        lakebase.routes(postgres),
        jobs.routes(state.section("jobs"), home, tokens),
        pipelines.routes(local),
        repos.routes(state.section("repos"), tree),
        workspace_files.routes(tree),
        apps.routes(deployed),
        app_proxy.routes(tokens, deployed.app, deployed.process, client),
        secrets.routes(scopes),
        dashboards.routes(state.section("dashboards"), state.section("alerts")),
        permissions.routes(state.section("permissions"), {"apps": deployed.app}),
    ):
        app.include_router(router)
    return app
