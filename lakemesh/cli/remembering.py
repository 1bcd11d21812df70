"""What the commands about memory open: the parts that remember, beside a server that may be running."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracerProvider

from lakemesh.cli.opened import opened_configuration
from lakemesh.composition.erasure import open_erasure
from lakemesh.composition.memory import facts_of, open_consolidation, open_sessions
from lakemesh.config.schema import Config
from lakemesh.config.settings import Settings
from lakemesh.errors import InvalidRequest, Unavailable
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory import Memory
from lakemesh.models import ModelClient

if TYPE_CHECKING:
    from lakemesh.erasure import Certificate
    from lakemesh.memory.facts import Fact


def memory_of(workspace: Workspace, config: Config, *, folder: Path | None = None) -> tuple[Memory, ModelClient]:
    """The memory of this home or workspace, and the models it embeds with; close the memory. `folder` is where what is
    not delivered yet waits, the home's unless given."""
    tracer = NoOpTracerProvider().get_tracer("lakemesh")
    models = ModelClient(config.models, endpoints=workspace.endpoints, tracer=tracer, on_use=lambda use: None)
    memory = Memory(
        config.memory,
        workspace=workspace,
        embed=partial(models.embed, route=config.memory.embedding_route),
        dimension=models.embedding_dimension,
        embedding_model=models.embedding_model(config.memory.embedding_route),
        folder=folder or Settings().home / "memory",
        tracer=tracer,
    )
    return memory, models


async def erased(user: str, *, scrub: bool) -> "Certificate":
    """Beside running servers: what they have recorded and not delivered comes with their next delivery, so the erasure
    is complete once it was done again after that."""
    home = Settings().home
    async with AsyncExitStack() as stack:
        workspace, config = await stack.enter_async_context(opened_configuration())
        memory, _ = memory_of(workspace, config)
        stack.push_async_callback(memory.close)
        sessions = await open_sessions(workspace, home / "sessions", stack)

        async def nothing_recorded() -> bool:
            return True

        erasure = open_erasure(
            config,
            workspace=workspace,
            memory=memory,
            sessions=sessions,
            flush=nothing_recorded,
            home=home,
            scrub=scrub,
        )
        return await erasure.erase(user)


async def known_facts(user: str, *, with_past: bool) -> "list[Fact]":
    """Raises `InvalidRequest` without a database."""
    async with opened_configuration() as (workspace, config):
        if workspace.database is None:
            raise InvalidRequest("Facts are kept in PostgreSQL; set LAKEMESH_DATABASE.")
        store, _ = facts_of(workspace.database, config.memory, workspace)
        return await store.of_owner(user, with_past=with_past)


async def consolidated() -> Mapping[str, Any]:
    """Raises `Unavailable` while another process is at it."""
    async with opened_configuration() as (workspace, config):
        memory, models = memory_of(workspace, config)
        try:
            consolidation = open_consolidation(
                config.memory,
                workspace=workspace,
                models=models,
                memory=memory,
                meter=NoOpMeter("lakemesh"),
                folder=Settings().home / "memory",
            )
            figures = await consolidation.run()
        finally:
            await memory.close()
    if figures is None:
        raise Unavailable("Another process consolidates right now.")
    return asdict(figures)
