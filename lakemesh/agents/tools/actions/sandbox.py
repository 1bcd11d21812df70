"""SQL that writes to sandboxes, and tables promoted from there once they have been checked, as tools."""

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lakemesh.agents.base import AgentContext, Tool
from lakemesh.agents.known_names import KnownNames
from lakemesh.agents.needs import Needs
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound, PermissionDenied
from lakemesh.lakehouse.names import split_name
from lakemesh.lakehouse.sql_sandbox import quoted, sandboxed, snapshot, with_source
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import AgentInput, AgentOutput
from lakemesh.telemetry.evidence import redacted_rows

SHOWN_FAULTS = 5
SCHEMA = r"^[^.]+\.[^.]+$"


class SandboxOptions(BaseModel):
    """`sandboxes` are the `catalog.schema` that may be written, and read; `schemas` those that may be read besides."""

    model_config = ConfigDict(extra="forbid")

    sandboxes: list[str] = Field(min_length=1)
    schemas: list[str] = []


class Statement(BaseModel):
    statement: str = Field(
        min_length=1,
        max_length=20_000,
        description="CREATE OR REPLACE TABLE catalog.schema.table AS SELECT, INSERT OVERWRITE, DROP TABLE IF EXISTS",
    )
    parameters: dict[str, str | int | float | bool | None] = Field(
        default={}, description="values of the statement's named parameters, :name"
    )


class Written(BaseModel):
    """`version` is the table's afterwards; None when it is gone."""

    table: str
    version: int | None


class WriteTool(Tool[Statement, Written]):
    """Runs one SQL statement that makes, replaces or drops a table of a sandbox. Running it again changes nothing."""

    input_model = Statement
    output_model = Written
    options_model = SandboxOptions
    options: SandboxOptions

    @classmethod
    def needs(cls, options: SandboxOptions) -> Needs:
        return Needs(warehouse=True)

    async def process(self, request: AgentInput[Statement], context: AgentContext) -> AgentOutput[Written]:
        options = self.options
        allowed = await asyncio.to_thread(
            sandboxed, request.data.statement, sandboxes=options.sandboxes, schemas=options.schemas
        )
        workspace = await context.workspace()
        await workspace.warehouse.query(
            allowed.text,
            request.data.parameters,
            read_only=False,
            timeout_seconds=context.deadline.remaining_seconds(),
        )
        version = await version_of(allowed.table, workspace)
        return AgentOutput(agent_name=self.name, result=Written(table=allowed.table, version=version))


class Target(BaseModel):
    """`check` is a SELECT over the table `source`; each row that it finds is a fault. `min_rows` keeps a table from
    being promoted that has fewer."""

    model_config = ConfigDict(extra="forbid")

    check: str | None = Field(default=None, min_length=1)
    min_rows: int = Field(default=1, ge=0)


class PromotionOptions(BaseModel):
    """`targets` are the tables that may be replaced, with what is asked of what comes there."""

    model_config = ConfigDict(extra="forbid")

    sandboxes: list[str] = Field(min_length=1)
    targets: dict[str, Target] = Field(min_length=1)


class Promotion(BaseModel):
    source: str = Field(max_length=300, description="the table of a sandbox, catalog.schema.table")
    target: str = Field(max_length=300, description="the table whose rows it is to become")


class Promoted(BaseModel):
    """`source_version` is what was checked and, when `promoted`, copied; `former_version` is what RESTORE TABLE brings
    the target back to."""

    promoted: bool
    source_version: int
    former_version: int | None
    rows: int
    reason: str | None = None
    faults: list[dict[str, Any]] = []


class PromoteTool(Tool[Promotion, Promoted]):
    """Replaces a table's rows by those of a sandbox's table, in one commit, when the check finds no fault."""

    input_model = Promotion
    output_model = Promoted
    options_model = PromotionOptions
    options: PromotionOptions

    @classmethod
    def needs(cls, options: PromotionOptions) -> Needs:
        return Needs(warehouse=True, tables=frozenset(options.targets))

    @classmethod
    def check_options(cls, options: PromotionOptions, known: KnownNames) -> list[str]:
        faults = []
        for name, target in options.targets.items():
            try:
                split_name(name)
                with_source(target.check or "SELECT 1 AS x", name, 0)
            except LakemeshError as error:
                faults.append(f"targets.{name}: {error.detail}")
        return faults

    async def process(self, request: AgentInput[Promotion], context: AgentContext) -> AgentOutput[Promoted]:
        """What is checked is what is copied: both read one version of the source."""
        source, name = request.data.source.lower(), request.data.target.lower()
        target = self._target(source, name)
        workspace = await context.workspace()
        version = await version_of(source, workspace)
        if version is None:
            raise NotFound(f"There is no table {source!r:.200}.")
        former = await version_of(name, workspace)
        found = Promoted(promoted=False, source_version=version, former_version=former, rows=0)
        [counted] = await self._query(with_source("SELECT count(*) AS n FROM source", source, version), context)
        found.rows = int(counted["n"])
        if found.rows < target.min_rows:
            found.reason = f"It has {found.rows} rows, and {target.min_rows} are the fewest."
        elif faults := await self._faults(target, source, version, context):
            found.reason, found.faults = "The check found faults.", faults
        else:
            await self._copy(source, version, name, is_new=former is None, context=context)
            found.promoted = True
        return AgentOutput(agent_name=self.name, result=found)

    def _target(self, source: str, name: str) -> Target:
        catalog, schema, _ = split_name(source)
        if f"{catalog}.{schema}" not in {one.lower() for one in self.options.sandboxes}:
            raise PermissionDenied(f"{source!r:.200} is in no sandbox; there are {', '.join(self.options.sandboxes)}.")
        targets = {known.lower(): target for known, target in self.options.targets.items()}
        if name not in targets:
            raise PermissionDenied(f"{name!r:.200} may not be replaced here; {', '.join(targets)} may.")
        return targets[name]

    async def _faults(self, target: Target, source: str, version: int, context: AgentContext) -> list[dict[str, Any]]:
        if target.check is None:
            return []
        return await self._query(with_source(target.check, source, version), context)

    async def _copy(self, source: str, version: int, name: str, *, is_new: bool, context: AgentContext) -> None:
        """One commit of Delta; INSERT OVERWRITE keeps the target's columns, comments and grants."""
        head = f"CREATE TABLE {quoted(name)} AS" if is_new else f"INSERT OVERWRITE TABLE {quoted(name)} BY NAME"
        await (await context.workspace()).warehouse.query(
            f"{head} {snapshot(source, version)}",
            read_only=False,
            timeout_seconds=context.deadline.remaining_seconds(),
        )

    async def _query(self, statement: str, context: AgentContext) -> list[dict[str, Any]]:
        found = await (await context.workspace()).warehouse.query(
            statement, row_limit=SHOWN_FAULTS, timeout_seconds=context.deadline.remaining_seconds()
        )
        return redacted_rows(found.to_dicts())


async def version_of(table: str, workspace: Workspace) -> int | None:
    """The newest; None where there is no such table."""
    try:
        found = await workspace.warehouse.query(f"DESCRIBE HISTORY {quoted(table)} LIMIT 1")
    except (NotFound, InvalidRequest):
        return None
    return int(found.to_dicts()[0]["version"])
