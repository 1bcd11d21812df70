"""Pipelines on this machine: kept as the Pipelines API keeps them, run on open-source Spark, their tables written into
the embedded workspace.

Every update reads everything again, as a full refresh does. Code that the gate refuses is not run.
"""

import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lakemesh.errors import Conflict, InvalidRequest, LakemeshError, NotFound, PermissionDenied
from lakemesh.lakehouse.pipelines import PipelineEvent, PipelineInfo, PipelineSettings, Update, event_of, settings_of
from lakemesh.lakehouse.pipelines import state_of as update_state
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.lakehouse.workspace_files import WorkspaceFiles
from lakemesh.pipelines.gate import require_judged
from lakemesh.pipelines.local_tables import lay_out_sources, write_tables
from lakemesh.pipelines.spark.process import Spark

RUN_SECONDS = 600.0
KEPT_UPDATES = 50
MAX_EVENTS = 1_000
MAX_TAGS = 25
REFUSED_TOGETHER = (("schema", "target"), ("catalog", "storage"), ("serverless", "clusters"))
KNOWN = frozenset(
    """
    allow_duplicate_names budget_policy_id catalog channel clusters configuration continuous deployment development
    dry_run edition environment event_log expected_last_modified id libraries name notifications photon root_path run_as
    schema serverless storage tags target trigger usage_policy_id parent_path
    """.split()  # noqa: SIM905
)
ACTIVE = ("QUEUED", "INITIALIZING", "SETTING_UP_TABLES", "RUNNING")


class LocalPipelines:
    """`kept` is plain JSON, changed in place; `save` is called after each change."""

    def __init__(
        self,
        kept: dict[str, dict[str, Any]],
        *,
        files: WorkspaceFiles,
        workspace: Workspace,
        spark: Spark,
        save: Callable[[], None],
    ) -> None:
        self.kept = kept
        self._save = save
        self._files = files
        self._workspace = workspace
        self._spark = spark
        self._running: dict[str, asyncio.Task[None]] = {}
        for pipeline in kept.values():
            for update in pipeline["updates"]:
                if update["state"] in ACTIVE:  # its process has gone
                    update["state"] = "CANCELED"

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._spark.close()

    # As the API has them

    def described(self, pipeline_id: str) -> dict[str, Any]:
        """Raises `NotFound`."""
        if pipeline_id not in self.kept:
            raise NotFound(f"The specified pipeline {pipeline_id} was not found.")
        return self.kept[pipeline_id]

    def create_from(self, spec: Mapping[str, Any], *, creator: str) -> str:
        require_sound(spec)
        if any(other["name"] == spec["name"] for other in self.kept.values()) and not spec.get("allow_duplicate_names"):
            raise Conflict(f"The pipeline name {spec['name']!r} is already used by another pipeline.")
        pipeline_id = str(uuid.uuid4())
        self.kept[pipeline_id] = {
            "pipeline_id": pipeline_id, "name": spec["name"], "spec": {**spec, "id": pipeline_id},
            "creator_user_name": creator, "last_modified": now_ms(), "updates": [], "events": [],
        }  # fmt: skip
        self._save()
        return pipeline_id

    def edit_to(self, pipeline_id: str, spec: Mapping[str, Any]) -> None:
        pipeline = self.described(pipeline_id)
        require_sound(spec)
        expected = spec.get("expected_last_modified")
        if expected is not None and pipeline["last_modified"] > int(expected):
            raise Conflict(f"The pipeline {pipeline_id} was modified after {expected}.")
        kept = {name: value for name, value in spec.items() if name != "expected_last_modified"}
        pipeline.update(name=spec["name"], spec={**kept, "id": pipeline_id}, last_modified=now_ms())
        self._save()

    def start_from(self, pipeline_id: str, asked: Mapping[str, Any]) -> str:
        pipeline = self.described(pipeline_id)
        if any(update["state"] in ACTIVE for update in pipeline["updates"]):
            raise Conflict(f"An active update already exists for pipeline {pipeline_id!r}.")
        if asked.get("full_refresh") and (asked.get("refresh_selection") or asked.get("full_refresh_selection")):
            raise InvalidRequest("full_refresh cannot be used together with a selection of tables.")
        update = {
            "update_id": str(uuid.uuid4()), "pipeline_id": pipeline_id, "state": "QUEUED", "cause": "API_CALL",
            "creation_time": now_ms(), "config": pipeline["spec"],
            **{name: asked[name] for name in ("validate_only", "full_refresh", "refresh_selection",
                                             "full_refresh_selection") if asked.get(name)},
        }  # fmt: skip
        pipeline["updates"].insert(0, update)
        del pipeline["updates"][KEPT_UPDATES:]
        self._save()
        task = asyncio.create_task(self._carry_out(pipeline, update))
        self._running[update["update_id"]] = task
        task.add_done_callback(lambda _: self._running.pop(update["update_id"], None))
        return str(update["update_id"])

    def update_of(self, pipeline_id: str, update_id: str) -> dict[str, Any]:
        for update in self.described(pipeline_id)["updates"]:
            if update["update_id"] == update_id:
                found: dict[str, Any] = update
                return found
        raise NotFound(f"The specified update {update_id} was not found.")

    def events_of(self, pipeline_id: str, update_id: str | None = None) -> list[dict[str, Any]]:
        events = self.described(pipeline_id)["events"]
        return [event for event in events if update_id is None or event["origin"].get("update_id") == update_id]

    def stop_updates(self, pipeline_id: str) -> None:
        for update in self.described(pipeline_id)["updates"]:
            task = self._running.get(update["update_id"])
            if task is not None:
                task.cancel()

    async def delete(self, pipeline_id: str) -> None:
        """With its tables, as the platform does."""
        self.stop_updates(pipeline_id)
        pipeline = self.described(pipeline_id)
        for name in pipeline.get("tables", ()):
            with contextlib.suppress(NotFound):
                await self._workspace.tables.drop(name)
        del self.kept[pipeline_id]
        self._save()

    # The run

    async def _carry_out(self, pipeline: dict[str, Any], update: dict[str, Any]) -> None:
        try:
            await self._run(pipeline, update)
        except asyncio.CancelledError:
            self._to(pipeline, update, "CANCELED")
            raise
        except LakemeshError as error:
            self._fail(pipeline, update, error.code.upper(), error.detail)
        except Exception as error:  # noqa: BLE001  # the update's own failure, told in its events
            self._fail(pipeline, update, type(error).__name__, str(error))

    async def _run(self, pipeline: dict[str, Any], update: dict[str, Any]) -> None:
        settings = settings_of(pipeline["spec"])
        self._to(pipeline, update, "INITIALIZING")
        code = await self._source_of(settings)
        try:
            require_judged(code)
        except PermissionDenied as error:
            self._fail(pipeline, update, "LAKEMESH_GATE.REFUSED", error.detail)
            return
        with tempfile.TemporaryDirectory(prefix="lakemesh-update-") as folder:
            job = await lay_out_sources(Path(folder), code, self._workspace, settings)
            job |= {"steps": ["dry_run"] if update.get("validate_only") else ["run"]}
            self._to(pipeline, update, "SETTING_UP_TABLES")
            self._to(pipeline, update, "RUNNING")
            answer = await self._spark.run(Path(folder), job, timeout_seconds=RUN_SECONDS)
            if "error" in answer:
                self._fail(pipeline, update, answer["error"], answer["message"])
                return
            only = {*update.get("refresh_selection", ()), *update.get("full_refresh_selection", ())}
            wanted = {name: found for name, found in answer["tables"].items() if not only or name in only}
            written = await write_tables(self._workspace.tables, settings, wanted)
        pipeline["tables"] = sorted({*pipeline.get("tables", ()), *written})
        for name, rows in written.items():
            self._tell_flow(pipeline, update, name.rpartition(".")[2], rows, answer["expectations"])
        self._to(pipeline, update, "COMPLETED")

    async def _source_of(self, settings: PipelineSettings) -> dict[str, str]:
        """The modules that the globs name, by their path below the pipeline's root."""
        root = settings.root_path.rstrip("/")
        paths = [path for path in await self._files.list_files(root) if path.endswith((".py", ".sql"))]
        named = [path for path in paths if any(fnmatch(path, glob.replace("**", "*")) for glob in settings.include)]
        if queries := [path for path in named if path.endswith(".sql")]:
            raise InvalidRequest(f"{queries[0]} is SQL, which is not run here; Python is.")
        if not named:
            raise InvalidRequest(f"There are no source files at {', '.join(settings.include)}.")
        return {path[len(root) + 1 :]: (await self._files.read(path)).decode() for path in named}

    def _to(self, pipeline: dict[str, Any], update: dict[str, Any], state: str) -> None:
        update["state"] = state
        level = "WARN" if state == "CANCELED" else "INFO"
        self._tell(pipeline, update, "update_progress", f"Update {update['update_id'][:6]} is {state}.", level=level)

    def _fail(self, pipeline: dict[str, Any], update: dict[str, Any], error_class: str, message: str) -> None:
        update["state"] = "FAILED"
        text = message if message.startswith(f"[{error_class}") else f"[{error_class}] {message}"
        error = {"fatal": True, "exceptions": [{"class_name": error_class, "message": text[:2_000]}]}
        said = f"Update {update['update_id'][:6]} is FAILED."
        self._tell(pipeline, update, "update_progress", said, level="ERROR", error=error)

    def _tell_flow(
        self, pipeline: dict[str, Any], update: dict[str, Any], name: str, rows: int, found: Sequence[Mapping[str, Any]]
    ) -> None:
        judged = [{key: value for key, value in each.items() if key != "action"} for each in found
                  if each["dataset"] == name]  # fmt: skip
        progress: dict[str, Any] = {"status": "COMPLETED", "metrics": {"num_output_rows": rows}}
        if judged:
            progress["data_quality"] = {"expectations": judged}
        message = f"Flow {name} has COMPLETED."
        self._tell(pipeline, update, "flow_progress", message, dataset=name, details={"flow_progress": progress})

    def _tell(
        self, pipeline: dict[str, Any], update: dict[str, Any], event_type: str, message: str, *, level: str = "INFO",
        dataset: str | None = None, error: Mapping[str, Any] | None = None, details: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        origin = {"pipeline_id": pipeline["pipeline_id"], "update_id": update["update_id"]}
        event = {
            "id": str(uuid.uuid4()), "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event_type": event_type, "level": level, "message": message, "maturity_level": "STABLE",
            "origin": {**origin, **({"dataset_name": dataset} if dataset else {})}, "details": details or {},
        }  # fmt: skip
        pipeline["events"].append(event | ({"error": error} if error else {}))
        del pipeline["events"][:-MAX_EVENTS]
        self._save()

    # As the port has them

    async def find(self, name: str) -> PipelineInfo | None:
        found = [pipeline_id for pipeline_id, pipeline in self.kept.items() if pipeline["name"] == name]
        return await self.get(found[0]) if found else None

    async def get(self, pipeline_id: str) -> PipelineInfo:
        pipeline = self.described(pipeline_id)
        return PipelineInfo(
            pipeline_id=pipeline_id,
            settings=settings_of(pipeline["spec"]),
            last_modified_ms=pipeline["last_modified"],
            updates=tuple(update["update_id"] for update in pipeline["updates"]),
        )

    async def create(self, settings: PipelineSettings) -> str:
        return self.create_from(spec_of(settings), creator="local")

    async def edit(self, pipeline_id: str, settings: PipelineSettings, *, last_modified_ms: int) -> None:
        self.edit_to(pipeline_id, {**spec_of(settings), "expected_last_modified": last_modified_ms})

    async def start(
        self, pipeline_id: str, *, validate_only: bool = False, full_refresh: bool = False, only: Sequence[str] = ()
    ) -> str:
        asked: dict[str, Any] = {"validate_only": validate_only, "full_refresh": full_refresh and not only}
        if only:
            asked["full_refresh_selection" if full_refresh else "refresh_selection"] = list(only)
        return self.start_from(pipeline_id, asked)

    async def update(self, pipeline_id: str, update_id: str) -> Update:
        found = self.update_of(pipeline_id, update_id)
        return Update(
            update_id=update_id,
            state=update_state(found["state"]),
            validate_only=bool(found.get("validate_only")),
            full_refresh=bool(found.get("full_refresh")),
            created_ms=found["creation_time"],
        )

    async def events(self, pipeline_id: str, update_id: str) -> Sequence[PipelineEvent]:
        return [event_of(event) for event in self.events_of(pipeline_id, update_id)]

    async def stop(self, pipeline_id: str) -> None:
        self.stop_updates(pipeline_id)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def spec_of(settings: PipelineSettings) -> dict[str, Any]:
    return {
        "name": settings.name, "catalog": settings.catalog, "schema": settings.schema,
        "root_path": settings.root_path, "libraries": [{"glob": {"include": glob}} for glob in settings.include],
        "serverless": settings.serverless, "continuous": settings.continuous, "development": settings.development,
        "configuration": dict(settings.configuration), "tags": dict(settings.tags),
    }  # fmt: skip


def require_sound(spec: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` for what the platform refuses (Pipelines API reference, "create")."""
    if unknown := sorted(spec.keys() - KNOWN):
        raise InvalidRequest(f"Unrecognized field {unknown[0]!r}.")
    if not spec.get("name") or not isinstance(spec["name"], str):
        raise InvalidRequest("A pipeline needs a name.")
    for one, other in REFUSED_TOGETHER:
        if spec.get(one) and spec.get(other):
            raise InvalidRequest(f"{one} cannot be used together with {other}.")
    if not spec.get("libraries"):
        raise InvalidRequest("A pipeline needs at least one library.")
    for library in spec["libraries"]:
        include = (library.get("glob") or library.get("file") or {}).get("include")
        if include is None and "notebook" not in library and "file" not in library:
            raise InvalidRequest("A library is a glob, a file or a notebook.")
        if include is not None and not str(include).startswith("/"):
            raise InvalidRequest(f"The path {include!r} of a library must be absolute.")
    if len(spec.get("tags") or {}) > MAX_TAGS:
        raise InvalidRequest(f"A pipeline has at most {MAX_TAGS} tags.")
    wrong = [key for key, value in (spec.get("configuration") or {}).items() if not isinstance(value, str)]
    if wrong:
        raise InvalidRequest(f"The configuration {wrong[0]!r} must be text.")
