"""`lakemesh demo analyst`: questions in plain words over four domains of an invented shop."""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

    from lakemesh.jobs.analyst_questions import Ask

ASK_SECONDS = 60.0
MODELS = {
    "endpoints": {"offline": {"serving_endpoint": "offline"}},
    "routes": {name: {"endpoints": ["offline"]} for name in ("quality", "fast", "embeddings")},
}


def write_config(home: Path) -> Path:
    """The folder of the demo's configuration."""
    folder = home / "config"
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    agents = yaml.safe_load((files("lakemesh.jobs") / "analyst_demo.yaml").read_text())
    (folder / "lakemesh.yaml").write_text(yaml.safe_dump({"agents": agents, "models": MODELS}, sort_keys=False))
    return folder


async def prepare(home: Path, seed: int) -> "Mapping[str, pa.Table]":
    """Put the shop's tables into the demo's workspace."""
    from lakemesh.composition.services import open_workspace
    from lakemesh.config.settings import Settings
    from lakemesh.jobs.analyst_data import generate, store

    tables = generate(seed)
    workspace = await open_workspace(Settings(home=home, config_folder=home / "config"))
    try:
        await store(workspace, tables)
    finally:
        await workspace.close()
    return tables


def ask_all(port: int, questions: "Sequence[Ask]", tables: "Mapping[str, pa.Table]", console: Console) -> None:
    """Ask every question, in order, and print a row for each and the sums."""
    table = Table("question", "domains", "outcome", "chart", "ms", title="POST /api/execute, agent analyst")
    outcomes: Counter[str] = Counter()
    waited = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ASK_SECONDS) as client:
        for asked in questions:
            body = {"agent": "analyst", "data": {"question": asked.question}, "session_id": asked.session}
            started = time.perf_counter()
            response = client.post("/api/execute", json={name: value for name, value in body.items() if value})
            waited.append((time.perf_counter() - started) * 1000)
            result = response.json().get("result") or {"status": response.json().get("code"), "answers": []}
            outcome = outcome_of(asked, result, tables)
            outcomes[outcome] += 1
            answers = result["answers"]
            domains = ", ".join(one["domain"] for one in answers)
            charts = ", ".join((one["chart"] or {}).get("kind", "") for one in answers)
            table.add_row(asked.question, domains, outcome, charts, f"{waited[-1]:.0f}")
    console.print(table)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    slowest = max(waited)
    console.print(
        f"{len(questions)} questions: {counts}; median {statistics.median(waited):.0f} ms, most {slowest:.0f} ms"
    )


def outcome_of(asked: "Ask", result: Mapping[str, Any], tables: "Mapping[str, pa.Table]") -> str:
    """`right` is to the row; a refusal is right when the data has no answer."""
    from lakemesh.jobs.analyst_questions import matches

    if result["status"] != "answered":
        return "rightly refused" if not asked.expected and result["status"] == "refused" else "wrongly refused"
    found = [
        any(matches(expected, answer["rows"], tables) for answer in result["answers"]) for expected in asked.expected
    ]
    return "right" if found and all(found) and len(result["answers"]) == len(found) else "wrong"
