"""What the console's pages ask the server: figures, executions, conversations, traces, dashboards."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from lakemesh.config.console import ConsoleConfig
from lakemesh.config.telemetry import TelemetryConfig
from lakemesh.dashboards import dashboards
from lakemesh.edge import identity_of
from lakemesh.edge.caller import is_operator
from lakemesh.errors import LakemeshError, NotFound, PermissionDenied
from lakemesh.http import json_response, problem_response
from lakemesh.lakehouse.warehouse import Warehouse
from lakemesh.services.console.assets import ChartLibrary, asset_routes
from lakemesh.services.console.history import History, Rows
from lakemesh.services.console.live import LiveExecutions, merged, started_at
from lakemesh.services.console.overview import overview
from lakemesh.services.console.queries import PAGE_ROWS, Viewer, query_of
from lakemesh.services.console.spans import log_view, parsed, span_views
from lakemesh.telemetry import ExecutionRecord

TRACE_ID = re.compile(r"[0-9a-f]{32}")

Handler = Callable[[Request, Viewer], Awaitable[Response]]


class Console:
    """Reads what telemetry wrote, with the last executions of this process on top. Everybody sees their own work;
    operators (`server.operators`, and those of the console's own section) see all of it."""

    def __init__(
        self,
        config: ConsoleConfig,
        *,
        warehouse: Warehouse,
        telemetry: TelemetryConfig,
        has_invocations: bool = False,
        has_budgets: Callable[[], bool] = lambda: False,
    ) -> None:
        self._operators = frozenset(config.operators)
        self._history = History(warehouse, telemetry)
        self._live = LiveExecutions()
        self._has_invocations = has_invocations
        self._has_budgets = has_budgets
        self._captures = telemetry.capture_content is not False
        self.note: Callable[[ExecutionRecord], None] = self._live.note
        self.charts = ChartLibrary()

    async def me(self, request: Request, viewer: Viewer) -> Response:
        """Who looks, and what this server has to show."""
        return json_response(
            {
                "user": viewer.user,
                "operator": viewer.is_operator,
                "invocations": self._has_invocations,
                "budgets": self._has_budgets(),
                "captures_content": self._captures,
                "charts": self.charts.version,
            }
        )

    async def overview(self, request: Request, viewer: Viewer) -> Response:
        query = query_of(request).seen_by(viewer)
        written = await self._history.groups(query)
        live = self._live.rows(query)
        if live:
            # Asked after the groups: what arrives meanwhile is missing for once, and never counted twice.
            known = await self._history.ids_since(query, started_at(live[-1]))
            live = [row for row in live if row["execution_id"] not in known]
        return json_response(overview(query, written, live))

    async def executions(self, request: Request, viewer: Viewer) -> Response:
        """The newest that fit the filters; one of them, by its id, with its content and what was said of it."""
        query = query_of(request).seen_by(viewer)
        live = self._live.rows(query)
        if query.live:
            return json_response({"executions": [execution_view(row) for row in live[:PAGE_ROWS]]})
        written = await self._history.executions(query, content=query.execution is not None)
        rows = merged(live, written, limit=PAGE_ROWS)
        return json_response({"executions": [execution_view(row) for row in rows], "more": len(rows) == PAGE_ROWS})

    async def sessions(self, request: Request, viewer: Viewer) -> Response:
        query = query_of(request).seen_by(viewer)
        return json_response({"sessions": [session_view(row) for row in await self._history.sessions(query)]})

    async def session(self, request: Request, viewer: Viewer) -> Response:
        """A conversation: what was asked and answered in one user's session, oldest first."""
        query = query_of(request)
        if query.session is None:
            raise NotFound("Name the session: ?session=...")
        query = query.model_copy(update={"user": viewer.only or query.user})
        written, feedback = await asyncio.gather(
            self._history.executions(query, content=True), self._history.feedback(session_id=query.session)
        )
        turns = merged(self._live.rows(query), written, limit=PAGE_ROWS)
        return json_response(with_feedback(turns[::-1], feedback, "turns"))

    async def trace(self, request: Request, viewer: Viewer) -> Response:
        """The tree of spans, the executions in it, what was logged meanwhile and what people said. `pending` while
        something of it is known and not yet in the tables."""
        trace_id = request.path_params["trace_id"]
        if not TRACE_ID.fullmatch(trace_id):
            raise NotFound("A trace's id has 32 hexadecimal digits.")
        (spans, logs, written), feedback = await asyncio.gather(
            self._history.trace(trace_id), self._history.feedback(trace_id=trace_id)
        )
        live = self._live.of_trace(trace_id)
        rows = merged(live, written, limit=PAGE_ROWS)
        if not viewer.is_operator:
            rows = [row for row in rows if row["user_id"] == viewer.user]
        shown = {row["span_id"] for row in spans}
        pending = not spans or any(row["span_id"] and row["span_id"] not in shown for row in rows)
        views = span_views(spans, viewer) if rows or viewer.is_operator else []
        found = with_feedback(rows[::-1], feedback, "executions")
        lines = [log_view(row) for row in logs] if viewer.is_operator else []
        return json_response({**found, "spans": views, "logs": lines, "pending": pending})

    async def list_dashboards(self, request: Request, viewer: Viewer) -> Response:
        found = dashboards().values()
        return json_response(
            {"dashboards": [{"name": d.name, "title": d.title, "description": d.description} for d in found]}
        )

    async def dashboard(self, request: Request, viewer: Viewer) -> Response:
        """The dashboard's rows over the last `hours`. They are of everybody, so they are for operators."""
        found = dashboards().get(request.path_params["name"])
        if found is None:
            raise NotFound(f"There is no such dashboard; there are {', '.join(dashboards())}.")
        if not viewer.is_operator:
            raise PermissionDenied("Dashboards show everybody's work: they are for operators (server.operators).")
        query = query_of(request)
        values = {
            "start": query.until - timedelta(hours=query.hours),
            "end": query.until,
            "bucket_seconds": query.bucket_seconds,
        }
        result = await self._history.dashboard(found, {name: values[name] for name in found.parameters})
        if result is None:
            return json_response({"columns": [], "rows": []})
        return json_response({"columns": result.columns, "rows": result.rows})

    def viewer_of(self, request: Request) -> Viewer:
        user = identity_of(request.scope).user
        return Viewer(user, user in self._operators or is_operator(request.scope))

    def guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler with who looks; errors as problem details."""

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request, self.viewer_of(request))
            except LakemeshError as error:
                response = problem_response(error)
            response.headers["Cache-Control"] = "no-store"
            return response

        return handle


def execution_view(row: dict[str, Any]) -> dict[str, Any]:
    view = {**row, "timestamp": started_at(row)}
    for name in ("degraded", "models", "prompts"):
        view[name] = parsed(view[name]) or []
    for name in ("input_data", "output_data"):
        if name in view:
            view[name] = parsed(view[name])
    return view


def session_view(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{name: started_at({"timestamp": row[name]}) for name in ("started", "ended")}}


def with_feedback(rows: Rows, feedback: Rows, name: str) -> dict[str, Any]:
    """The executions, and what was said of those among them."""
    shown = {row["execution_id"] for row in rows}
    said = [{**row, "correction": parsed(row["correction"])} for row in feedback if row["execution_id"] in shown]
    return {name: [execution_view(row) for row in rows], "feedback": said}


def console_routes(console: Console) -> list[BaseRoute]:
    """The page and its files, and what it asks under `/console/api/`."""
    paths = {
        "me": console.me,
        "overview": console.overview,
        "executions": console.executions,
        "sessions": console.sessions,
        "session": console.session,
        "traces/{trace_id}": console.trace,
        "dashboards": console.list_dashboards,
        "dashboards/{name}": console.dashboard,
    }
    api = [Route(f"/console/api/{path}", console.guarded(handler)) for path, handler in paths.items()]
    return [*api, *asset_routes(console.charts)]
