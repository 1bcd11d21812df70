"""What the console's pages ask the server: recent executions, one trace, one dashboard."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from lakemesh.config.console import ConsoleConfig
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.dashboards import dashboards
from lakemesh.edge import identity_of
from lakemesh.errors import InvalidRequest, LakemeshError, NotFound, PermissionDenied
from lakemesh.http import json_response, problem_response
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.telemetry import ExecutionRecord

KEPT_EXECUTIONS = 200
QUERY_SECONDS = 20.0
MAX_HOURS = 24 * 366
POINTS = 60
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
TRACE = """
SELECT span_id, parent_span_id, name, start_time_unix_nano, end_time_unix_nano, status.code AS code, attributes
FROM {table} WHERE trace_id = :trace_id ORDER BY start_time_unix_nano LIMIT 1000
"""

Handler = Callable[[Request], Awaitable[Response]]


class Console:
    """Reads what telemetry wrote, and keeps the last executions of this process at hand for a live view."""

    def __init__(
        self,
        config: ConsoleConfig,
        *,
        warehouse: Warehouse,
        telemetry: TelemetryConfig,
    ) -> None:
        self._operators = None if config.operators is None else frozenset(config.operators)
        self._warehouse = warehouse
        self._telemetry = telemetry
        self._trace_statement = TRACE.format(table=telemetry.table("traces"))
        self._recent: deque[ExecutionRecord] = deque(maxlen=KEPT_EXECUTIONS)

    def note(self, record: ExecutionRecord) -> None:
        """An execution ended."""
        self._recent.append(record)

    async def executions(self, request: Request) -> Response:
        return json_response({"executions": [execution_view(record) for record in reversed(self._recent)]})

    async def trace(self, request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        try:
            result = await self._warehouse.query(
                self._trace_statement, {"trace_id": trace_id}, timeout_seconds=QUERY_SECONDS
            )
        except NotFound:
            return json_response({"spans": []})  # nothing was written yet
        return json_response({"spans": span_views(result.to_dicts())})

    async def list_dashboards(self, request: Request) -> Response:
        found = dashboards().values()
        return json_response(
            {"dashboards": [{"name": d.name, "title": d.title, "description": d.description} for d in found]}
        )

    async def dashboard(self, request: Request) -> Response:
        """The dashboard's rows over the last `hours`."""
        found = dashboards().get(request.path_params["name"])
        if found is None:
            raise NotFound(f"There is no such dashboard; there are {', '.join(dashboards())}.")
        hours = hours_of(request)
        end = datetime.now(UTC)
        values = {
            "start": end - timedelta(hours=hours),
            "end": end,
            "bucket_seconds": max(60, int(hours * 3_600 / POINTS) // 60 * 60),
        }
        parameters = {name: values[name] for name in found.parameters}
        statement = found.statement_in(self._telemetry.catalog, self._telemetry.schema_name)
        try:
            result = await self._warehouse.query(statement, parameters, timeout_seconds=QUERY_SECONDS)
        except NotFound:
            return json_response({"columns": [], "rows": []})  # nothing was written yet
        return json_response({"columns": result.columns, "rows": result.rows})

    def guarded(self, handler: Handler) -> Handler:
        """The handler, for callers who may look; errors as problem details."""

        async def handle(request: Request) -> Response:
            try:
                identity = identity_of(request.scope)
                if self._operators is not None and identity.user not in self._operators:
                    raise PermissionDenied("Only the operators named in the configuration see the console.")
                return await handler(request)
            except LakemeshError as error:
                return problem_response(error)

        return handle


def hours_of(request: Request) -> float:
    try:
        hours = float(request.query_params.get("hours", "24"))
    except ValueError:
        hours = 0.0
    if not 0 < hours <= MAX_HOURS:
        raise InvalidRequest(f"hours is a number up to {MAX_HOURS}.")
    return hours


def execution_view(record: ExecutionRecord) -> dict[str, Any]:
    return {
        "started": datetime.fromtimestamp(record.timestamp_ns / 1e9, tz=UTC).isoformat(timespec="milliseconds"),
        "agent": record.agent_id,
        "door": record.door,
        "latency_ms": round(record.latency_ms, 2),
        "outcome": "ok" if record.success else record.error_code,
        "degraded": "; ".join(record.degraded),
        "trace_id": record.trace_id,
    }


def span_views(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Spans in the order of the tree, each below its parent, with its depth."""
    known = {row["span_id"] for row in rows}
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in rows:
        parent = row["parent_span_id"] if row["parent_span_id"] in known else None
        children.setdefault(parent, []).append(row)
    views: list[dict[str, Any]] = []
    pending = [(row, 0) for row in reversed(children.get(None, []))]
    while pending:
        row, depth = pending.pop()
        views.append(span_view(row, depth))
        pending += [(child, depth + 1) for child in reversed(children.get(row["span_id"], []))]
    return views


def span_view(row: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {
        "name": row["name"],
        "depth": depth,
        "start_ms": row["start_time_unix_nano"] / 1e6,
        "end_ms": row["end_time_unix_nano"] / 1e6,
        "failed": row["code"] == "STATUS_CODE_ERROR",
        "attributes": from_json(row["attributes"] or "{}"),
    }


def asset_response(name: str) -> Response:
    suffix = name[name.rfind(".") :]
    content = files(__package__ or "").joinpath(name).read_bytes()
    return Response(content, media_type=MEDIA_TYPES[suffix], headers=HEADERS)


def console_routes(console: Console) -> list[BaseRoute]:
    """The page at `/`, its files under `/console/`, what it asks under `/console/api/`."""
    assets = {file.name for file in files(__package__ or "").iterdir() if file.name.endswith((".css", ".js"))}

    async def page(request: Request) -> Response:
        return asset_response("index.html")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        return asset_response(name) if name in assets else problem_response(NotFound("There is no such file."))

    async def to_page(request: Request) -> Response:
        return RedirectResponse("/")

    return [
        Route("/", page),
        Route("/console", to_page),
        Route("/console/api/executions", console.guarded(console.executions)),
        Route("/console/api/traces/{trace_id}", console.guarded(console.trace)),
        Route("/console/api/dashboards", console.guarded(console.list_dashboards)),
        Route("/console/api/dashboards/{name}", console.guarded(console.dashboard)),
        Route("/console/{name}", asset),
    ]
