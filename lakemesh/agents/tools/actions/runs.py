"""One action, from its token to its end: started once, waited for, cancelled with the run that it is a part of."""

import asyncio
import hashlib
from abc import abstractmethod
from contextvars import Context
from functools import partial
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from lakemesh.agents.base import AgentContext, AgentServices, Tool
from lakemesh.agents.tools.actions.ledger import Bounds, ledger_of
from lakemesh.agents.tools.actions.parameters import ActionInput
from lakemesh.errors import DeadlineExceeded, LakemeshError, Unavailable
from lakemesh.lakehouse.jobs import JobRun, Jobs, TaskOutput
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.redaction import PatternName, TextRedactor
from lakemesh.schemas import AgentInput, AgentOutput, Progress
from lakemesh.scope import ExecutionScope

logger = structlog.get_logger(__name__)

REDACTED: tuple[PatternName, ...] = ("card_number", "email", "token")
ANSWER_SHARE = 0.1
"""Of the time that is left, what is kept for the answer."""
CANCEL_SECONDS = 30.0
OUTPUT_SECONDS = 10.0

Status = Literal["succeeded", "failed", "cancelled", "skipped", "running"]
STATUS: dict[str, Status] = {"SUCCESS": "succeeded", "CANCELED": "cancelled", "SKIPPED": "skipped"}


class ActionOptions(BaseModel):
    """`wait_seconds` is how long the end is waited for, unless the caller says less, within the deadline; what goes on
    longer is handed back and may be asked for again. `concurrent` bounds the runs of this tool that go on at once,
    `concurrent_per_user` those of one user."""

    model_config = ConfigDict(extra="forbid")

    wait_seconds: float = Field(default=60.0, ge=0)
    log_characters: int = Field(default=4_000, ge=0, le=100_000, description="of each task's log, its end")
    concurrent: int | None = Field(default=None, ge=1)
    concurrent_per_user: int | None = Field(default=None, ge=1)


class Task(BaseModel):
    """What a task gave back and wrote. Card numbers, addresses and credentials are taken out."""

    task: str
    result: str | None = None
    log: str = ""
    error: str | None = None
    truncated: bool = False


class ActionResult(BaseModel):
    """How it stands. While it is `running`, the same call with this `run_token` waits for it again."""

    status: Status
    run_id: int
    run_token: str
    message: str | None = None
    url: str | None = None
    tasks: list[Task] = []


class Action(Tool[ActionInput, ActionResult]):
    """Base of what starts a run of the workspace's jobs. All of it asks the workspace that the context gives, so that
    policies and, on behalf of a user, that user's rights hold."""

    output_model = ActionResult
    options: ActionOptions

    def __init__(self, name: str, options: Any, services: AgentServices) -> None:
        super().__init__(name, options, services)
        self._cancelling: set[asyncio.Task[None]] = set()
        bounds = Bounds(tool=name, total=self.options.concurrent, per_user=self.options.concurrent_per_user)
        self._ledger = ledger_of(bounds, services.workspace.database)

    @abstractmethod
    async def begin(self, data: Any, workspace: Workspace, token: str) -> int:
        """Start the run, unless `token` started it before; its number."""

    async def close(self) -> None:
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=CANCEL_SECONDS)

    async def process(self, request: AgentInput[ActionInput], context: AgentContext) -> AgentOutput[ActionResult]:
        data, workspace = request.data, await context.workspace()
        run_token = data.run_token or run_of(context.scope)
        token = token_of(self.name, run_token, data, context.scope)
        await self._ledger.take(token, context.identity.user, partial(self._has_ended, workspace))
        try:
            run_id = await self.begin(data, workspace, token)
        except LakemeshError:
            await self._ledger.end(token)
            raise
        await self._ledger.note(token, str(run_id))
        context.emit(Progress(progress=0, message=f"{self.name}: run {run_id} was started"))
        try:
            run = await self._awaited(run_id, workspace, context, data.wait_seconds)
            tasks = await self._tasks(run_id, workspace) if run.state == "ended" else []
        except asyncio.CancelledError:
            self._cancel_later(run_id, workspace, context.scope)
            raise
        if run.state == "ended":
            await self._ledger.end(token)
        return AgentOutput(agent_name=self.name, result=result_of(run, run_token, tasks))

    async def _awaited(
        self, run_id: int, workspace: Workspace, context: AgentContext, asked_seconds: float | None
    ) -> JobRun:
        """The run when it has ended, or as it stands when nobody waits any longer."""
        most = self.options.wait_seconds if asked_seconds is None else min(asked_seconds, self.options.wait_seconds)
        seconds = min(most, context.deadline.remaining_seconds() * (1 - ANSWER_SHARE))
        try:
            return await jobs_of(workspace).wait(run_id, timeout_seconds=max(seconds, 0.01))
        except DeadlineExceeded:
            return await jobs_of(workspace).status(run_id)

    async def _tasks(self, run_id: int, workspace: Workspace) -> list[Task]:
        """Bounded and redacted. That there are none to be had does not make the run undone."""
        try:
            async with asyncio.timeout(OUTPUT_SECONDS):
                found = await jobs_of(workspace).output(run_id)
        except (LakemeshError, TimeoutError) as error:
            logger.warning("output of a run not read", run=run_id, reason=str(error)[:200])
            return []
        return [told(one, self.options.log_characters) for one in found]

    async def _has_ended(self, workspace: Workspace, run_id: str) -> bool:
        try:
            return (await jobs_of(workspace).status(int(run_id))).state == "ended"
        except LakemeshError:
            return False

    def _cancel_later(self, run_id: int, workspace: Workspace, scope: ExecutionScope) -> None:
        """Beside the run that ends, and outside of its deadline."""
        work = self._cancel(run_id, workspace, scope)
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, run_id: int, workspace: Workspace, scope: ExecutionScope) -> None:
        """A durable run that is only interrupted (its server stops, it waits for a person) goes on elsewhere, and finds
        what it started; one that is cancelled, or that nothing brings back, ends it."""
        durable = scope.root.durable
        try:
            if durable is None or await durable.is_cancelled():
                await jobs_of(workspace).cancel(run_id)
        except LakemeshError as error:
            logger.warning("run not cancelled", run=run_id, tool=self.name, reason=error.detail)


def run_of(scope: ExecutionScope) -> str:
    """What names the run that a door began: over all its attempts, when it is durable."""
    root = scope.root
    return root.durable.run_id if root.durable is not None else root.execution_id


def token_of(tool: str, run_token: str, data: ActionInput, scope: ExecutionScope) -> str:
    """The same call of the same user in the same run is the same run of the job. 64 characters."""
    asked = data.model_dump(mode="json", exclude={"run_token", "wait_seconds"})
    return hashlib.sha256(to_json([scope.identity.user, run_token, tool, asked])).hexdigest()


def result_of(run: JobRun, run_token: str, tasks: list[Task]) -> ActionResult:
    status: Status = "running" if run.state != "ended" else STATUS.get(run.result or "", "failed")
    return ActionResult(
        status=status, run_id=run.run_id, run_token=run_token, message=run.message, url=run.url, tasks=tasks
    )


def jobs_of(workspace: Workspace) -> Jobs:
    if workspace.jobs is None:
        raise Unavailable("This workspace has no jobs.")
    return workspace.jobs


def told(output: TaskOutput, log_characters: int) -> Task:
    """The end of a log says the most."""
    redactor = TextRedactor(REDACTED)
    log = redactor.redact(output.log, len(output.log))[-log_characters:] if log_characters else ""
    cut = {
        name: None if text is None else redactor.redact(text, max(log_characters, 1_000))
        for name, text in (("result", output.result), ("error", output.error))
    }
    return Task(task=output.task, log=log, truncated=output.truncated or len(log) < len(output.log), **cut)
