"""`lakemesh demo analyst`: questions in plain words over four domains of an invented shop."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def ask_all(
    port: int, questions: "Sequence[Ask]", tables: "Mapping[str, pa.Table]", *, pictures: Path, console: Console
) -> None:
    """Ask every question, in order, with OpenAI's client; print a row for each and the sums, and draw the charts."""
    from openai import APIStatusError, OpenAI

    table = Table("question", "domains", "outcome", "chart", "ms", title="POST /api/responses, agent analyst")
    outcomes: Counter[str] = Counter()
    waited, drawn = [], 0
    draw = drawing(pictures, console)
    with OpenAI(base_url=f"http://127.0.0.1:{port}/api", api_key="none", timeout=ASK_SECONDS, max_retries=0) as client:
        for place, asked in enumerate(questions, 1):
            conversation: dict[str, Any] = {"conversation": asked.session} if asked.session else {}
            started = time.perf_counter()
            try:
                response = client.responses.create(model="analyst", input=asked.question, **conversation)
                result: Mapping[str, Any] = response.to_dict()["custom_outputs"]
            except APIStatusError as error:
                result = {"status": error.code or "failed", "answers": []}
            waited.append((time.perf_counter() - started) * 1000)
            outcome = outcome_of(asked, result, tables)
            outcomes[outcome] += 1
            answers = result["answers"]
            charts = [one["chart"] for one in answers if one["chart"]]
            drawn += draw(place, charts)
            domains, kinds = ", ".join(one["domain"] for one in answers), ", ".join(one["kind"] for one in charts)
            table.add_row(asked.question, domains, outcome, kinds, f"{waited[-1]:.0f}")
    console.print(table)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    slowest = max(waited)
    console.print(
        f"{len(questions)} questions: {counts}; median {statistics.median(waited):.0f} ms, most {slowest:.0f} ms"
    )
    if drawn:
        console.print(f"{drawn} charts in {pictures}")


def drawing(folder: Path, console: Console) -> "Callable[[int, Sequence[Mapping[str, Any]]], int]":
    """Draws the charts of an answer into the folder, and says how many; nothing without vl-convert, which is said."""
    from importlib.util import find_spec

    from lakemesh.agents.analyst.pictures import picture

    if find_spec("vl_convert") is None:
        console.print("no pictures of charts: pip install 'lakemesh[charts]'")
        return lambda place, charts: 0
    folder.mkdir(parents=True, exist_ok=True)

    def draw(place: int, charts: "Sequence[Mapping[str, Any]]") -> int:
        shown = [chart for chart in charts if chart["spec"]]
        for part, chart in enumerate(shown, 1):
            name = f"{place:02}-{part}-{chart['kind'].replace(' ', '-')}.png"
            (folder / name).write_bytes(picture(chart["spec"]))
        return len(shown)

    return draw


def outcome_of(asked: "Ask", result: Mapping[str, Any], tables: "Mapping[str, pa.Table]") -> str:
    """`right` is to the row; a refusal is right when the data has no answer."""
    from lakemesh.jobs.analyst_questions import matches

    if result["status"] != "answered":
        return "rightly refused" if not asked.expected and result["status"] == "refused" else "wrongly refused"
    found = [
        any(matches(expected, answer["rows"], tables) for answer in result["answers"]) for expected in asked.expected
    ]
    return "right" if found and all(found) and len(result["answers"]) == len(found) else "wrong"
