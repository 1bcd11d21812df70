"""`lakemesh demo`: a week of card transactions through a real server, what it caught and how fast."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lakemesh.cli.demo_server import MARKER, LookingAround, Place, server
from lakemesh.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from lakemesh.agents.fraud.features import TransactionTable
    from lakemesh.config.settings import Settings
    from lakemesh.jobs.fraud_metrics import FraudMetrics
    from lakemesh.jobs.replay import Replay
    from lakemesh.jobs.train_risk import Split
    from lakemesh.lakehouse.warehouse import QueryResult
    from lakemesh.lakehouse.workspace import Workspace

AGENT = "fraud_detector"
SCHEMA = "main.fraud"
OWN_HOME = Path(".lakemesh/demo")
GENERATED_DAYS = 136  # 2018-04-01 to 2018-08-14, the end of the published test week
CONNECTIONS = 16
REPLAY_SECONDS = 900.0
HISTORY_SECONDS = 120.0
QUESTION = """
SELECT agent_id, count(*) AS executions, count_if(NOT success) AS errors, round(avg(latency_ms), 2) AS avg_ms,
       round(percentile(latency_ms, 0.95), 2) AS p95_ms
FROM main.agents.telemetry WHERE timestamp >= :started AND door = 'api' GROUP BY agent_id ORDER BY agent_id
"""
PAGES = {"#overview": "figures", "#executions": "the executions", "#dashboards": "what the tables say"}
COMMANDS = ["traces last", "sql 'SELECT agent_id, count(*) FROM main.agents.telemetry GROUP BY 1'"]


def demo_fraud(
    home: Path | None, transactions: Path | None, requests: int | None, seed: int, *, stay: bool, console: Console
) -> None:
    """All of it. Raises `InvalidRequest` before any work when the place has tables of somebody's own."""
    from lakemesh.jobs.risk_training import require_scikit_learn

    require_scikit_learn()
    place = place_of(home)
    asyncio.run(claim(place))
    table, source = load(transactions, seed, console)
    test, split = asyncio.run(prepare(place, table, console))
    replayed = test if requests is None else test.first(requests)
    with server(place.home, 0, **place.variables) as port:
        warm_up(port, replayed, console)
        started = datetime.now(UTC)
        result = replay_with_progress(port, replayed, console)
    console.print(f"all {len(replayed):,} went through {AGENT}; server stopped, telemetry flushed")
    print_load(result, console)
    print_metrics(measure(table, replayed, split, result), source, partial=requests is not None, console=console)
    print_answer(asyncio.run(ask(place, started)), console)
    look_around(place, replayed, result, stay=stay, console=console)


def place_of(home: Path | None) -> Place:
    """This folder's workspace when its configuration has the agents, so that `lakemesh serve` serves what was trained;
    else a folder with a configuration of the demo's own."""
    from lakemesh.cli.config import read
    from lakemesh.config.settings import Settings

    settings = Settings()
    base = settings.config_folder / "lakemesh.yaml"
    if base.is_file() and AGENT in read(base, settings.environment)[0].agents:
        return Place(home or settings.home)
    home = home or OWN_HOME
    return Place(home, home / "config")


def settings_of(place: Place) -> "Settings":
    from lakemesh.config.settings import Settings

    settings = Settings(home=place.home)
    return settings.model_copy(update={"config_folder": place.config_folder}) if place.config_folder else settings


async def claim(place: Place) -> None:
    """Empty the demo's tables and write its configuration. Raises `InvalidRequest` when the tables are not a demo's."""
    marker = place.home / MARKER
    ours = marker.exists() and settings_of(place).workspace == "embedded"
    if not marker.exists() and place.config_folder and place.home.exists() and any(place.home.iterdir()):
        raise InvalidRequest(f"{place.home} is not empty and not a demo's; name another folder with --home.")
    workspace = await open_demo_workspace(place)
    try:
        tables = await workspace.tables.list_tables(SCHEMA)
        if tables and not ours:
            raise InvalidRequest(
                f"There are tables in {SCHEMA} that the demo did not make; name another folder with --home."
            )
        for name in tables:
            await workspace.tables.drop(name)
    finally:
        await workspace.close()
    place.home.mkdir(parents=True, exist_ok=True)
    marker.touch()
    if place.config_folder:
        with as_file(files("lakemesh.jobs") / "fraud_demo") as shipped:
            copytree(shipped, place.config_folder, dirs_exist_ok=True)


def load(file: Path | None, seed: int, console: Console) -> tuple["TransactionTable", str]:
    from lakemesh.jobs.card_transactions import generate
    from lakemesh.jobs.transactions_io import read_transactions

    started = time.perf_counter()
    table = generate(days=GENERATED_DAYS, seed=seed) if file is None else read_transactions(file)
    source = f"generated, seed {seed}" if file is None else file.name
    console.print(f"{len(table):,} transactions ({source}) in {time.perf_counter() - started:.1f} s")
    return table, source


async def open_demo_workspace(place: Place) -> "Workspace":
    """The build that the settings name. A Databricks workspace may hold no demo yet, and is given the configuration
    that on a laptop is found in its folder. Raises `InvalidRequest`."""
    from lakemesh.composition.services import local_mounts, open_workspace

    settings = settings_of(place)
    workspace = await open_workspace(settings)
    if settings.workspace == "databricks":
        for volume, folder in local_mounts(settings).items():
            for file in filter(Path.is_file, folder.iterdir()):
                await workspace.volumes.write(f"{volume}/{file.name}", file.read_bytes(), overwrite=True)
    return workspace


async def prepare(place: Place, table: "TransactionTable", console: Console) -> tuple["TransactionTable", "Split"]:
    """Put everything before the test week into Delta and train on it; the test week and the split."""
    from lakemesh.jobs.train_risk import split_before, train_from_table
    from lakemesh.jobs.transactions_io import store_transactions

    split = split_before(int(table.time.max()))
    workspace = await open_demo_workspace(place)
    try:
        started = time.perf_counter()
        await store_transactions(workspace, table.between(split.history_start, split.test_start))
        model = await train_from_table(workspace, split)
    finally:
        await workspace.close()
    console.print(
        f"risk model trained on {model.trained_on['transactions']:,} transactions from the Delta table "
        f"in {time.perf_counter() - started:.1f} s"
    )
    return table.between(split.test_start, split.test_end), split


def warm_up(port: int, test: "TransactionTable", console: Console) -> None:
    """Wait until the server has read its history, which the first answer waits for: it is counted apart. A transaction
    is remembered once, so the one that is asked for here changes nothing when it is replayed."""
    started = time.perf_counter()
    execute(f"http://127.0.0.1:{port}", "risk_scorer", test, 0)
    console.print(f"server started, its history of cards and terminals read in {time.perf_counter() - started:.1f} s")


def execute(address: str, agent: str, table: "TransactionTable", row: int) -> Any:
    """The answer to one transaction. Raises `Unavailable`."""
    import httpx

    from lakemesh.jobs.replay import body

    headers = {"content-type": "application/json"}
    try:
        answer = httpx.post(
            f"{address}/api/execute", content=body(agent, table, row), headers=headers, timeout=HISTORY_SECONDS
        )
        return answer.raise_for_status().json()
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        raise Unavailable(f"The server did not answer: {error}.") from None


def replay_with_progress(port: int, test: "TransactionTable", console: Console) -> "Replay":
    from lakemesh.jobs.replay import replay

    with progress(len(test), console) as advance:
        run = replay(
            port,
            test,
            agent=AGENT,
            connections=CONNECTIONS,
            timeout_seconds=REPLAY_SECONDS,
            on_progress=advance,
        )
        try:
            return asyncio.run(run)
        except ConnectionError as error:
            raise Unavailable(f"The server went away during the replay: {error}.") from None
        except TimeoutError:
            raise Unavailable(f"The replay took longer than {REPLAY_SECONDS:.0f} s.") from None


@contextmanager
def progress(total: int, console: Console) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, and a line for every tenth elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("replay", total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done * 10 // total > (done - 1) * 10 // total:
            console.print(f"replayed {done:,} of {total:,}")

    yield count


def measure(
    table: "TransactionTable", test: "TransactionTable", split: "Split", result: "Replay"
) -> "FraudMetrics | None":
    """Metrics of the replayed transactions; None when there are not both frauds and others among them."""
    import numpy as np

    from lakemesh.jobs.fraud_metrics import evaluate, without_known_cards

    counted = table.take(without_known_cards(table, split.train_start, split.test_start, split.test_end))
    rows = np.isin(test.transaction_id, counted.transaction_id) & ~np.isnan(result.scores)
    kept = test.take(rows)
    return evaluate(kept, result.scores[rows]) if 0 < kept.is_fraud.sum() < len(kept) else None


def print_load(result: "Replay", console: Console) -> None:
    load = result.load
    columns = ("requests", "errors", "degraded", "requests/s", "p50 ms", "p95 ms", "p99 ms")
    table = Table(*columns, title="POST /api/execute")
    table.add_row(
        f"{load.requests:,}",
        str(load.errors),
        str(result.degraded),
        f"{load.per_second:,.0f}",
        *(f"{load.percentile_ms(percent):.1f}" for percent in (50, 95, 99)),
    )
    console.print(table)
    console.print("decisions: " + ", ".join(f"{name} {count:,}" for name, count in sorted(result.decisions.items())))


def print_metrics(metrics: "FraudMetrics | None", source: str, *, partial: bool, console: Console) -> None:
    from lakemesh.jobs.fraud_metrics import PUBLISHED

    if metrics is None:
        console.print("too few frauds among the replayed transactions to measure anything")
        return
    if partial:
        console.print("part of the test week: --requests leaves too little to set beside the published figures")
        return
    table = Table(
        "", f"this run ({source})", "published (handbook, its own data)", title="Fraud detection, the test week"
    )
    rows = {
        "AUC ROC": (metrics.auc_roc, PUBLISHED.auc_roc),
        "average precision": (metrics.average_precision, PUBLISHED.average_precision),
        "card precision@100": (metrics.card_precision_at_100, PUBLISHED.card_precision_at_100),
    }
    for name, (ours, published) in rows.items():
        table.add_row(name, f"{ours:.3f}", f"{published:.3f}")
    table.add_row("transactions", f"{metrics.transactions:,}", f"{PUBLISHED.transactions:,}")
    console.print(table)


async def ask(place: Place, started: datetime) -> "QueryResult":
    from lakemesh.composition.services import open_workspace

    workspace = await open_workspace(settings_of(place))
    try:
        return await workspace.warehouse.query(QUESTION, {"started": started})
    finally:
        await workspace.close()


def print_answer(answer: "QueryResult", console: Console) -> None:
    table = Table(*answer.columns, title="SQL over the Delta telemetry: main.agents.telemetry")
    for row in answer.rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def look_around(place: Place, test: "TransactionTable", result: "Replay", *, stay: bool, console: Console) -> None:
    """A server with what was trained, and one trace worth reading: that of the transaction that scored highest."""
    import numpy as np

    around = LookingAround(place=place, stay=stay, pages=dict(PAGES), commands=COMMANDS)
    with around.open() as address:
        if address is not None and not np.isnan(result.scores).all():
            answer = execute(address, AGENT, test, int(np.nanargmax(result.scores)))
            found = answer["result"]
            about = f"one decision, step by step: {found['decision']}, score {found['fraud_score']:.2f}"
            around.pages[f"#traces/{answer['metadata']['trace_id']}"] = about
        around.show(console, address)
