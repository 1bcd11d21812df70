"""A server in a test, in one line."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from lakemesh.app import App, create_app
from lakemesh.client import Answer, AsyncClient, Client
from lakemesh.config.settings import Settings
from lakemesh.testing.executions import Execution, ask, read_executions
from lakemesh.testing.folders import AgentSpec, make_folder
from lakemesh.testing.model_server import ModelServer
from lakemesh.testing.server import ThreadedServer, threaded_server
from lakemesh.testing.tables import Rows, workspace_with

ORIGIN = "http://localhost"


class RunningServer(Client):
    """A `lakemesh.client.Client` of a server of its own. `server.http` is the httpx client below it, for requests of
    your own."""

    def __init__(
        self, server: ThreadedServer, config_folder: Path, model: ModelServer | None, token: str | None
    ) -> None:
        super().__init__(server.url, token=token)
        self._server = server
        self.url = server.url
        self.config_folder = config_folder
        self.model = model

    def client(self, token: str | None = None) -> Client:
        """Another client, such as one of another user (`auth.tokens`); the caller closes it."""
        return Client(self.url, token=token)

    def execution(self, answer: Answer | str) -> Execution:
        """What was done for an answer, or for an execution's id, such as `ServerError.execution_id`."""
        wanted = answer if isinstance(answer, str) else answer.execution_id
        services = self._server.services
        found = self._server.run_there(read_executions(services, agent=None, execution_id=wanted))
        if not found:
            raise LookupError(f"There is no execution {wanted}.")
        return found[0]

    def executions(self, agent: str | None = None) -> list[Execution]:
        """Every execution that was asked for at a door, oldest first."""
        return self._server.run_there(read_executions(self._server.services, agent=agent, execution_id=None))

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a query over the workspace's tables, telemetry's and memory's included."""
        return self._server.run_there(flushed_rows(self._server, statement))


async def flushed_rows(server: ThreadedServer, statement: str) -> list[dict[str, Any]]:
    await server.services.telemetry.flush()
    await server.services.memory.flush()
    return await ask(server.services, statement)


class InProcess(AsyncClient):
    """An `AsyncClient` that reaches the application without a port: agents run on the test's own loop, where a debugger
    stops. Streams come whole, when they have ended."""

    def __init__(self, app: App, config_folder: Path, model: ModelServer | None, token: str | None) -> None:
        super().__init__(ORIGIN, token=token, transport=httpx.ASGITransport(app))
        self._app = app
        self.config_folder = config_folder
        self.model = model

    async def execution(self, answer: Answer | str) -> Execution:
        """What was done for an answer, or for an execution's id."""
        wanted = answer if isinstance(answer, str) else answer.execution_id
        found = await read_executions(self._app.opened_services, agent=None, execution_id=wanted)
        if not found:
            raise LookupError(f"There is no execution {wanted}.")
        return found[0]


@contextmanager
def serve(
    source: str | Path | Mapping[str, AgentSpec],
    *,
    model: ModelServer | None = None,
    tables: Mapping[str, Rows] | None = None,
    config: Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    token: str | None = None,
    **settings: Any,
) -> Iterator[RunningServer]:
    """A real server on a free port of loopback, with a workspace of its own, until the block ends.

    `source` is a folder of configuration, or agents by name: `{"judge": Judge}`. Models are offline unless `model`, a
    `ScriptedModel` or a `RecordedModel`, stands in for every endpoint. `tables` are there when it starts, `config` is
    laid over the configuration, `prompts` are files by name (`judge_v1.jinja`). `settings` are those of
    `lakemesh.config.settings.Settings`, such as `home`, `environment` or `database`.

    Raises `ConfigurationInvalid` with every fault."""
    with prepared(source, model, tables, config, prompts, settings) as ready, threaded_server(ready) as server:
        running = RunningServer(server, ready.config_folder, model, token)
        with running:
            yield running


@asynccontextmanager
async def in_process(
    source: str | Path | Mapping[str, AgentSpec],
    *,
    model: ModelServer | None = None,
    tables: Mapping[str, Rows] | None = None,
    config: Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    token: str | None = None,
    **settings: Any,
) -> AsyncIterator[InProcess]:
    """The same without a port: `async with in_process("config") as server: await server.execute(...)`."""
    with prepared(source, model, tables, config, prompts, settings) as ready:
        app = create_app(ready)
        async with app.lifespan(), InProcess(app, ready.config_folder, model, token) as running:
            yield running


@contextmanager
def prepared(
    source: str | Path | Mapping[str, AgentSpec],
    model: ModelServer | None,
    tables: Mapping[str, Rows] | None,
    config: Mapping[str, Any] | None,
    prompts: Mapping[str, str] | None,
    settings: Mapping[str, Any],
) -> Iterator[Settings]:
    """Folders, tables and the model, until the block ends."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lakemesh-test-")))
        if model is not None:
            stack.enter_context(model)
        folder = make_folder(
            root / "config",
            source,
            environment=str(settings.get("environment", "dev")),
            config=config or {},
            prompts=prompts or {},
            model_url=model.base_url if model is not None else None,
        )
        found = Settings(**{"home": root / "home", "port": 0, **settings, "config_folder": folder})
        if tables:
            with ThreadPoolExecutor(1) as thread:  # the test may have a loop of its own
                thread.submit(asyncio.run, fill(found.home, tables)).result()
        yield found


async def fill(home: Path, tables: Mapping[str, Rows]) -> None:
    async with workspace_with(home, tables):
        pass
