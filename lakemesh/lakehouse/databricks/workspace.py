"""The Databricks build, put together: for the application itself, and for each user on whose behalf it acts."""

import asyncio
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx
from cachetools import TTLCache

from lakemesh import __version__
from lakemesh.config.settings import Settings
from lakemesh.deadline import Deadline
from lakemesh.errors import ConfigurationInvalid, LakemeshError, Unauthenticated, WorkspaceUnavailable
from lakemesh.lakehouse.database import Database, open_url
from lakemesh.lakehouse.databricks.calls import WORKERS, SdkCalls
from lakemesh.lakehouse.tables import Column
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity
from lakemesh.scope import current_deadline

if TYPE_CHECKING:
    from databricks.ai_search.client import AISearchClient
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.clock import Clock

HTTP_SECONDS = 30
RETRY_SECONDS = 30
"""The SDK begins no retry after `RETRY_SECONDS`. As its HTTP time limit is not shorter, a request whose answer was
merely slow is never sent again: only refused ones (429, 503) and broken connections are."""

CONNECT_SECONDS = 20.0
PING_SECONDS = 5.0
PING_KEPT_SECONDS = 30.0
USER_CACHE_SIZE = 1_000
USER_CACHE_SECONDS = 900.0

Credentials = Mapping[str, Any]


async def open_workspace(settings: Settings) -> Workspace:
    """The workspace the settings name. Raises `ConfigurationInvalid` when they lack something, and
    `WorkspaceUnavailable` when the credentials cannot be used."""
    credentials = application_credentials(settings)
    calls = SdkCalls()
    http = httpx.AsyncClient(timeout=HTTP_SECONDS, limits=httpx.Limits(max_connections=WORKERS))
    client = await connected(settings, credentials, calls)
    opened = ports(settings, client, calls, credentials, http)
    database = open_database(settings, client, calls)
    users = UserWorkspaces(settings, calls, http)

    async def close() -> None:
        await users.close()
        if database is not None:
            await database.close()
        await opened.close()
        await http.aclose()
        calls.close()

    bind = None if settings.default_credentials else users.workspace_of
    return replace(opened, bind=bind, close=close, database=database)


def open_database(settings: Settings, client: "WorkspaceClient", calls: SdkCalls) -> Database | None:
    """The application's own database: Lakebase, or the one at a URL. Users' ports have none."""
    choice = settings.database.get_secret_value() if settings.database is not None else None
    if choice is not None and choice != "lakebase":
        return open_url(choice)
    instance, endpoint = settings.lakebase_instance, settings.lakebase_endpoint
    if instance is None and endpoint is None:
        if choice is None:
            return None
        raise ConfigurationInvalid(["LAKEMESH_LAKEBASE_INSTANCE or LAKEMESH_LAKEBASE_ENDPOINT: one must name Lakebase"])
    from lakemesh.lakehouse.databricks.database import open_lakebase

    return open_lakebase(client, calls, instance=instance, endpoint=endpoint)


def application_credentials(settings: Settings) -> Credentials:
    if settings.default_credentials:
        if settings.behind_platform_proxy or settings.in_model_serving:
            fault = "LAKEMESH_DEFAULT_CREDENTIALS: they are one user's, and this process answers many"
            raise ConfigurationInvalid([fault])
        return {"auth_type": None}
    faults = []
    if not settings.databricks_host:
        faults.append("DATABRICKS_HOST: the address of the workspace is missing")
    if not settings.warehouse_id:
        faults.append("LAKEMESH_WAREHOUSE_ID: the id of a SQL warehouse is missing")
    if settings.in_model_serving:
        if faults:
            raise ConfigurationInvalid(faults)
        return {"auth_type": "model-serving"}  # the resources that the model was logged with
    has_principal = bool(settings.databricks_client_id and settings.databricks_client_secret)
    if not has_principal and not settings.databricks_token:
        faults.append("DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, or DATABRICKS_TOKEN: credentials are missing")
    if faults:
        raise ConfigurationInvalid(faults)
    if settings.databricks_client_secret and has_principal:
        secret = settings.databricks_client_secret.get_secret_value()
        return {
            "auth_type": "oauth-m2m",
            "client_id": settings.databricks_client_id,
            "client_secret": secret,
        }
    assert settings.databricks_token is not None
    return user_credentials(settings.databricks_token.get_secret_value())


def user_credentials(token: str) -> Credentials:
    """The type is forced: the application's own credentials are in the environment, where the SDK looks too."""
    return {"auth_type": "pat", "token": token}


async def connect(settings: Settings, credentials: Credentials, calls: SdkCalls, http: httpx.AsyncClient) -> Workspace:
    """Every port with these credentials; closing it leaves `calls` and `http`, which carries none, open."""
    return ports(settings, await connected(settings, credentials, calls), calls, credentials, http)


async def connected(settings: Settings, credentials: Credentials, calls: SdkCalls) -> "WorkspaceClient":
    deadline = current_deadline(CONNECT_SECONDS).sooner(CONNECT_SECONDS)
    client = await calls.run(lambda: sdk_client(settings, credentials, calls), deadline=deadline)
    if client.config.auth_type == "oauth-m2m":
        calls.renew_with(client.config.init_auth)
    return client


def ports(
    settings: Settings,
    client: "WorkspaceClient",
    calls: SdkCalls,
    credentials: Credentials,
    http: httpx.AsyncClient,
) -> Workspace:
    from lakemesh.lakehouse.databricks.directory import WorkspaceDirectory
    from lakemesh.lakehouse.databricks.endpoints import ServingEndpoints
    from lakemesh.lakehouse.databricks.functions import UnityFunctions
    from lakemesh.lakehouse.databricks.genie import GenieSpaces
    from lakemesh.lakehouse.databricks.indexes import SearchIndexes
    from lakemesh.lakehouse.databricks.jobs import WorkspaceJobs
    from lakemesh.lakehouse.databricks.pipelines import WorkspacePipelines
    from lakemesh.lakehouse.databricks.secrets import WorkspaceSecrets
    from lakemesh.lakehouse.databricks.tables import UnityTables
    from lakemesh.lakehouse.databricks.volumes import UnityVolumes
    from lakemesh.lakehouse.databricks.warehouse import SqlWarehouse
    from lakemesh.lakehouse.databricks.workspace_files import SdkGitFolders, SdkWorkspaceFiles

    volumes = UnityVolumes(client, calls)
    warehouse = SqlWarehouse(client, calls, warehouse_id=settings.warehouse_id or "", http=http)
    endpoints = ServingEndpoints(client, calls)
    tables = UnityTables(client, calls, warehouse=warehouse, volumes=volumes)

    async def columns_of(table: str) -> Sequence[Column]:
        return (await tables.describe(table)).columns

    answered_at = -math.inf

    async def ping() -> None:
        """Probes come every few seconds and from every replica: an answer is good for `PING_KEPT_SECONDS`."""
        nonlocal answered_at
        if time.monotonic() - answered_at < PING_KEPT_SECONDS:
            return
        try:
            await calls.run(client.current_user.me, deadline=Deadline.after(PING_SECONDS), retries=False)
        except LakemeshError as error:
            raise WorkspaceUnavailable(error.detail) from error
        answered_at = time.monotonic()

    async def close() -> None:
        await warehouse.close()
        await endpoints.close()

    return Workspace(
        name="databricks",
        volumes=volumes,
        tables=tables,
        warehouse=warehouse,
        indexes=SearchIndexes(
            lambda: search_client(client, credentials),
            calls,
            endpoint=settings.vector_search_endpoint,
            endpoint_type=settings.vector_search_endpoint_type,
            columns_of=columns_of,
        ),
        endpoints=endpoints,
        ping=ping,
        close=close,
        functions=UnityFunctions(client, calls, warehouse=warehouse),
        genie=GenieSpaces(client, calls),
        jobs=WorkspaceJobs(client, calls, warehouse_id=settings.warehouse_id or ""),
        pipelines=WorkspacePipelines(client, calls),
        files=SdkWorkspaceFiles(client, calls),
        git_folders=SdkGitFolders(client, calls),
        secrets=WorkspaceSecrets(client, calls),
        directory=WorkspaceDirectory(client, calls),
    )


def sdk_client(settings: Settings, credentials: Credentials, calls: SdkCalls) -> "WorkspaceClient":
    """The presigned-URL way of the Files API is off: it costs a second request per file, and ours are small.
    Raises `WorkspaceUnavailable` when the workspace does not say where its tokens are given out."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    try:
        config = Config(
            host=settings.databricks_host,
            clock=cast("Clock", calls.clock),
            http_timeout_seconds=HTTP_SECONDS,
            retry_timeout_seconds=RETRY_SECONDS,
            max_connection_pools=WORKERS,
            max_connections_per_pool=WORKERS,
            disable_experimental_files_api_client=True,
            product="lakemesh",
            product_version=__version__,
            **credentials,
        )
        return WorkspaceClient(config=config)
    except ValueError as error:  # the SDK's way to say so
        raise WorkspaceUnavailable("The workspace cannot be reached, or does not know the credentials.") from error


def search_client(client: "WorkspaceClient", credentials: Credentials) -> "AISearchClient":
    from databricks.ai_search.client import AISearchClient

    return AISearchClient(
        workspace_url=client.config.host,
        personal_access_token=credentials.get("token"),
        service_principal_client_id=credentials.get("client_id"),
        service_principal_client_secret=credentials.get("client_secret"),
        disable_notice=True,
    )


class UserWorkspaces:
    """One workspace per user token, kept by the token's digest for a while and never longer; the least used go
    first. A user's ports share the application's threads and nothing else."""

    def __init__(self, settings: Settings, calls: SdkCalls, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._calls = calls
        self._http = http
        self._open: TTLCache[str, asyncio.Task[Workspace]] = TTLCache(
            USER_CACHE_SIZE, USER_CACHE_SECONDS, timer=time.monotonic
        )

    async def workspace_of(self, identity: Identity) -> Workspace:
        """Raises `Unauthenticated` without a token: the application's rights never stand in for a user's."""
        if not identity.token:
            raise Unauthenticated("This needs the user's own token; sign in through the platform's proxy.")
        key = hashlib.sha256(f"{identity.user}\0{identity.token}".encode()).hexdigest()
        opening = self._open.get(key)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            credentials = user_credentials(identity.token)
            opening = asyncio.ensure_future(connect(self._settings, credentials, self._calls.for_user(), self._http))
            self._open[key] = opening
        return await asyncio.shield(opening)

    async def close(self) -> None:
        for opening in list(self._open.values()):
            if opening.done() and not opening.cancelled() and not opening.exception():
                await opening.result().close()
        self._open.clear()
