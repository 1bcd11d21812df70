"""`lakemesh demo`: the main job, from nothing, on this machine."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lakemesh.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from lakemesh.agents.fraud.features import TransactionTable
    from lakemesh.jobs.fraud_metrics import FraudMetrics
    from lakemesh.jobs.replay import Replay
    from lakemesh.jobs.train_risk import Split
    from lakemesh.lakehouse.warehouse import QueryResult
    from lakemesh.lakehouse.workspace import Workspace

GENERATED_DAYS = 136  # 2018-04-01 to 2018-08-14, the end of the published test week
CONNECTIONS = 16
START_SECONDS = 60.0
REPLAY_SECONDS = 900.0
STOP_SECONDS = 30.0
QUESTION = """
SELECT agent_id, count(*) AS executions, count_if(NOT success) AS errors, round(avg(latency_ms), 2) AS avg_ms,
       round(percentile(latency_ms, 0.95), 2) AS p95_ms
FROM main.agents.telemetry GROUP BY agent_id ORDER BY agent_id
"""


def demo(
    what: Annotated[
        Literal["fraud", "analyst", "optimize", "pipeline"], typer.Argument(help="Which of the demos.")
    ] = "fraud",
    request: Annotated[str | None, typer.Argument(help="For `pipeline`: what is wanted, in English.")] = None,
    change: Annotated[str | None, typer.Argument(help="For `pipeline`: how it is to be changed then.")] = None,
    transactions: Annotated[
        Path | None, typer.Option(help="A Parquet or CSV file of your own instead of the generated data.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Replay only the first so many requests.")] = None,
    seed: Annotated[int, typer.Option(help="Of the generated data.")] = 2018,
    home: Annotated[Path, typer.Option(help="Folder of the demo's workspace; it is emptied first.")] = Path(
        ".lakemesh/demo"
    ),
) -> None:
    """Start a server, replay a week of card transactions through it, and show what it caught and how fast. `analyst`:
    ask it questions in plain words over an invented shop, and show which answers are right. `optimize`: make a poor
    prompt better by golden cases, prove it, serve it, and have a worse one taken back. `pipeline`: turn a sentence into
    a pipeline, run it on Spark with generated rows, and change it by a second one."""
    console = Console()
    if what == "optimize":
        demo_optimize(home, console)
        return
    if what == "pipeline":
        demo_pipeline(home, request, change, console)
        return
    if what == "analyst":
        demo_analyst(home, seed, console)
        return
    table, source = load(transactions, seed, console)
    clear(home)
    test, split = asyncio.run(prepare(home, table, console))
    replayed = test if requests is None else test.first(requests)
    with server(home) as port:
        result = replay_with_progress(port, replayed, console)
    console.print(f"all {len(replayed):,} went through fraud_detector; server stopped, telemetry flushed")
    print_load(result, console)
    print_metrics(measure(table, replayed, split, result), source, partial=requests is not None, console=console)
    print_answer(asyncio.run(ask(home)), console)


def demo_analyst(home: Path, seed: int, console: Console) -> None:
    from lakemesh.cli import analyst_demo
    from lakemesh.jobs.analyst_questions import QUESTIONS

    clear(home)
    folder = analyst_demo.write_config(home)
    tables = asyncio.run(analyst_demo.prepare(home, seed))
    console.print(f"{sum(map(len, tables.values())):,} rows in {len(tables)} tables (generated, seed {seed})")
    with server(home, LAKEMESH_CONFIG_FOLDER=str(folder)) as port:
        analyst_demo.ask_all(port, QUESTIONS, tables, pictures=home / "charts", console=console)


def demo_pipeline(home: Path, request: str | None, change: str | None, console: Console) -> None:
    from lakemesh.cli import pipeline_demo

    clear(home)
    pipeline_demo.demo_pipeline(home, request, change, console)


def demo_optimize(home: Path, console: Console) -> None:
    from lakemesh.cli import optimize_demo

    clear(home)
    console.print(f"report in {asyncio.run(optimize_demo.run(home, console, server))}")


def load(file: Path | None, seed: int, console: Console) -> tuple["TransactionTable", str]:
    from lakemesh.jobs.card_transactions import generate
    from lakemesh.jobs.transactions_io import read_transactions

    started = time.perf_counter()
    table = generate(days=GENERATED_DAYS, seed=seed) if file is None else read_transactions(file)
    source = f"generated, seed {seed}" if file is None else file.name
    console.print(f"{len(table):,} transactions ({source}) in {time.perf_counter() - started:.1f} s")
    return table, source


def clear(home: Path) -> None:
    """Empty the demo's own folder, and refuse to touch one that is not."""
    marker = home / "made-by-lakemesh-demo"
    if home.exists() and any(home.iterdir()) and not marker.exists():
        raise InvalidRequest(f"{home} is not empty and not a demo's; name another folder with --home.")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    marker.touch()


async def open_demo_workspace(home: Path) -> "Workspace":
    """The build that the settings name. A Databricks workspace may hold no demo yet, and is given the configuration
    that on a laptop is found in its folder. Raises `InvalidRequest`."""
    from lakemesh.composition.services import local_mounts, open_workspace
    from lakemesh.config.settings import Settings

    settings = Settings(home=home)
    workspace = await open_workspace(settings)
    if settings.workspace == "databricks":
        if await workspace.tables.list_tables("main.fraud"):
            raise InvalidRequest("The workspace has tables in main.fraud; the demo needs one without.")
        for volume, folder in local_mounts(settings).items():
            for file in filter(Path.is_file, folder.iterdir()):
                await workspace.volumes.write(f"{volume}/{file.name}", file.read_bytes(), overwrite=True)
    return workspace


async def prepare(home: Path, table: "TransactionTable", console: Console) -> tuple["TransactionTable", "Split"]:
    """Put everything before the test week into Delta and train on it; the test week and the split."""
    from lakemesh.jobs.train_risk import split_before, train_from_table
    from lakemesh.jobs.transactions_io import store_transactions

    split = split_before(int(table.time.max()))
    workspace = await open_demo_workspace(home)
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


@contextmanager
def server(home: Path, **settings: str) -> Iterator[int]:
    """A real server in a process of its own, on a free port; stopped as the platform does it."""
    environment = {**os.environ, "LAKEMESH_HOME": str(home), **settings}
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lakemesh.cli", "serve", "--port", "0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    try:
        yield wait_for_port(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """The port, once the server says that it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if "Uvicorn running on" in line:
                return int(json.loads(line)["event"].split()[3].rpartition(":")[2])
        time.sleep(0.05)
    raise Unavailable(f"The server did not start; see {log}.")


def replay_with_progress(port: int, test: "TransactionTable", console: Console) -> "Replay":
    from lakemesh.jobs.replay import replay

    with progress(len(test), console) as advance:
        run = replay(
            port,
            test,
            agent="fraud_detector",
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
    scope = "part of the test week" if partial else "the test week"
    table = Table("", f"this run ({source}; {scope})", "published (handbook, its own data)", title="Fraud detection")
    rows = {
        "AUC ROC": (metrics.auc_roc, PUBLISHED.auc_roc),
        "average precision": (metrics.average_precision, PUBLISHED.average_precision),
        "card precision@100": (metrics.card_precision_at_100, PUBLISHED.card_precision_at_100),
    }
    for name, (ours, published) in rows.items():
        table.add_row(name, f"{ours:.3f}", f"{published:.3f}")
    table.add_row("transactions", f"{metrics.transactions:,}", f"{PUBLISHED.transactions:,}")
    console.print(table)


async def ask(home: Path) -> "QueryResult":
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings

    workspace = await open_workspace(Settings(home=home))
    try:
        return await workspace.warehouse.query(QUESTION)
    finally:
        await workspace.close()


def print_answer(answer: "QueryResult", console: Console) -> None:
    table = Table(*answer.columns, title="SQL over the Delta telemetry: main.agents.telemetry")
    for row in answer.rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)
