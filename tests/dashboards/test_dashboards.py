"""The dashboards' figures are those that pandas computes over the same Delta tables."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pandas as pd
import pytest
import sqlglot
from deltalake import DeltaTable

from lakemesh.agents.anomaly.alerts import alerts_table
from lakemesh.composition.services import Services, open_services
from lakemesh.config.settings import Settings
from lakemesh.dashboards import dashboards
from lakemesh.errors import LakemeshError
from lakemesh.evaluation.production_tables import drift_table, precision_table, scores_table
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import AgentInput, Identity
from tests.server import running_server, write_config
from tests.services.conftest import AGENTS

pytestmark = pytest.mark.anyio

SPAN = {"start": "2020-01-01", "end": "2100-01-01", "bucket_seconds": 60}


async def work(services: Services) -> None:
    """A little of everything: answers, failures, nested calls, model calls and prompts."""
    requests = [("echo", {"message": "x"})] * 20 + [("caller", {"message": "x"})] * 7
    requests += [("trouble", {"mode": mode}) for mode in ("raise", "raise", "designed", "degrade")]
    requests += [("prompted", {"question": f"what of {n}?"}) for n in range(5)]
    for agent, data in requests:
        try:
            request = AgentInput(agent_name=agent, data=data)
            await services.router.execute(request, identity=Identity(user="ann"), door="api")
        except LakemeshError:
            pass
    assert await services.consolidation.run() is not None
    assert await services.telemetry.flush()
    await monitored(services.workspace)


async def monitored(workspace: Workspace) -> None:
    """What `lakemesh monitor` writes."""
    now = datetime.now(UTC)
    for table, row in (
        (scores_table("main.agents"), {"execution_id": "1", "timestamp": now, "scored_at": now, "value": 0.5}),
        (drift_table("main.agents"), {"timestamp": now, "name": "latency_ms (PSI)", "value": 0.1}),
        (precision_table("main.agents"), {"day": now.date(), "computed_at": now, "precision_at_top": 0.25}),
        (alerts_table("main.agents.alerts"), {"alert_id": "1", "created_at": now, "severity": "high"}),
    ):
        await workspace.tables.create(table)
        row = {column.name: None for column in table.columns} | {"agent_id": "echo"} | row
        await workspace.tables.append(table.name, rows_to_arrow(table.columns, [row]))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dashboards")
    agents = AGENTS + "  prompted: {class: tests.agents.sample_agents:PromptedAgent}\n"
    folder = write_config(root / "config", agents, more="telemetry: {metrics_seconds: 0.2}")
    (folder / "prompts/ask_v1.txt").write_text("one {{ question }}")
    (folder / "prompts/ask_v2.txt").write_text("two {{ question }}")
    async with open_services(Settings(home=root / "home", config_folder=folder)) as services:
        await work(services)
    return root / "home"


@pytest.fixture(scope="module")
async def opened(home: Path) -> AsyncIterator[Workspace]:
    workspace = await open_workspace(home)
    yield workspace
    await workspace.close()


async def ask(workspace: Workspace, name: str) -> list[dict]:
    dashboard = dashboards()[name]
    parameters = {key: value for key, value in SPAN.items() if key in dashboard.parameters}
    return (await workspace.warehouse.query(dashboard.statement, parameters)).to_dicts()


def table(home: Path, name: str) -> pd.DataFrame:
    return DeltaTable(home / "tables/main/agents" / name).to_pandas()


def asked_for(home: Path) -> pd.DataFrame:
    """Executions that somebody asked for: no calls of agents by agents, no requests that were refused."""
    rows = table(home, "agent_executions")
    return rows[rows.parent_execution_id.isna() & ~rows.refused]


@pytest.mark.parametrize("name", sorted(dashboards()))
async def test_every_dashboard_runs_and_is_databricks_sql(opened: Workspace, name: str) -> None:
    dashboard = dashboards()[name]
    assert dashboard.title
    assert dashboard.description
    assert {"start", "end"} <= dashboard.parameters
    assert sqlglot.parse_one(dashboard.statement, dialect="databricks")
    assert await ask(opened, name)


async def test_nothing_outside_of_the_time_asked_for(opened: Workspace) -> None:
    for dashboard in dashboards().values():
        span = {"start": "2001-01-01", "end": datetime(2001, 1, 2, tzinfo=UTC), "bucket_seconds": 60}
        parameters = {key: value for key, value in span.items() if key in dashboard.parameters}
        assert (await opened.warehouse.query(dashboard.statement, parameters)).rows == []


async def test_executions_over_time(home: Path, opened: Workspace) -> None:
    rows = asked_for(home)
    groups = rows.groupby(rows.timestamp.dt.floor("60s"))
    expected = groups.agg(
        executions=("success", "size"),
        failures=("success", lambda column: int((~column).sum())),
        average_ms=("latency_ms", "mean"),
        p95_ms=("latency_ms", lambda column: column.quantile(0.95)),
    )
    got = pd.DataFrame(await ask(opened, "executions_over_time")).set_index("at")
    assert got.executions.tolist() == expected.executions.tolist()
    assert got.failures.tolist() == expected.failures.tolist()
    assert got.average_ms.tolist() == pytest.approx(expected.average_ms.tolist(), abs=1e-3)
    assert got.p95_ms.tolist() == pytest.approx(expected.p95_ms.tolist(), abs=1e-3)


async def test_error_rate_by_agent(home: Path, opened: Workspace) -> None:
    rows = asked_for(home)
    expected = (~rows.success).groupby(rows.agent_id).mean()
    got = {row["agent_id"]: row for row in await ask(opened, "error_rate_by_agent")}
    assert {agent: row["error_rate"] for agent, row in got.items()} == pytest.approx(expected.to_dict(), abs=1e-4)
    assert got["trouble"]["most_frequent_error"] == "agent_failed"


async def test_slowest_executions(home: Path, opened: Workspace) -> None:
    rows = table(home, "agent_executions").sort_values(["latency_ms", "execution_id"], ascending=[False, True])
    got = await ask(opened, "slowest_executions")
    assert [row["execution_id"] for row in got] == rows.execution_id.head(50).tolist()


async def test_tokens_and_cost(home: Path, opened: Workspace) -> None:
    rows = table(home, "model_inference_logs")
    expected = rows.groupby(["agent_id", "model"]).agg(calls=("model", "size"), tokens=("input_tokens", "sum"))
    got = {
        (row["agent_id"], row["model"]): (row["calls"], row["input_tokens"])
        for row in await ask(opened, "tokens_and_cost")
    }
    assert got == {key: (row.calls, row.tokens) for key, row in zip(expected.index, expected.itertuples(), strict=True)}
    assert got["prompted", "offline"][0] == 5


async def test_spending_by_user(home: Path, opened: Workspace) -> None:
    rows = table(home, "model_inference_logs")
    got = await ask(opened, "spending_by_user")
    assert sum(row["model_calls"] for row in got) == len(rows)
    assert sum(row["tokens"] for row in got) == rows.input_tokens.sum() + rows.output_tokens.sum()
    assert {row["refused"] for row in got} == {0}


async def test_tool_use_and_prompt_versions(opened: Workspace) -> None:
    (tool,) = await ask(opened, "tool_use")
    assert (tool["tool"], tool["calls"], tool["failures"]) == ("echo", 7, 0)
    (prompt,) = await ask(opened, "prompt_versions")
    assert (prompt["prompt"], prompt["executions"]) == ("ask_v2", 5)


async def test_dashboards_are_of_the_configured_schema_and_empty_before_anything_was_written(tmp_path: Path) -> None:
    agents = "  echo: {class: lakemesh.agents.echo:EchoAgent}"
    config = write_config(tmp_path / "config", agents, more="telemetry: {schema: staging}")
    page = "/console/api/dashboards"
    with running_server(tmp_path, config) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            before = await client.get(f"{page}/executions_over_time")
            await client.post("/api/execute", json={"agent_name": "echo", "data": {"message": "x"}})
    with running_server(tmp_path, config) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            answers = {name: await client.get(f"{page}/{name}") for name in dashboards()}
    assert (before.status_code, before.json()["rows"]) == (200, [])
    assert answers["executions_over_time"].json()["rows"][0][1] == 1
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(dashboards(), 200)
