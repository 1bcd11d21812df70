"""`lakemesh demo optimize`: a poor prompt is measured, refused, made better, proved, served, worsened and taken back.

Everything is real but the model, which is a script: the engine, the server, the gates, the search, the feedback through
the door, and the experiment that ends by itself.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from rich.console import Console

from lakemesh.evaluation.cases import Case, write_jsonl
from lakemesh.evaluation.experiments import act, current_arms
from lakemesh.evaluation.promotion import Promotion
from lakemesh.evaluation.sequential import Arm, Rules, log_ratio
from lakemesh.evaluation.story import Look, Story, write_story
from lakemesh.jobs import scripted_desk as desk

if TYPE_CHECKING:
    from lakemesh.composition.services import Services
    from lakemesh.evaluation.evaluating import Bench, Outcome
    from lakemesh.evaluation.suite import Suite

CALLS = 120
SHARE = 0.5
SESSIONS_A_LOOK = 40
MOST_LOOKS = 25
FLUSH_SECONDS = 0.2
WRITTEN_SECONDS = 30.0
USER = "demo"
SUITE: dict[str, Any] = {
    "agent": desk.AGENT,
    "dataset": "cases.jsonl",
    "scorers": [{"type": "facts"}, {"type": "refusal"}, {"type": "forbidden"}],
    "gates": [
        {"metric": "facts", "at_least": 0.9, "min_cases": 5},
        {"metric": "refusal", "at_least": 0.9, "min_cases": 5},
    ],
}


def write_files(home: Path, model_url: str) -> Path:
    """Configuration, prompt, suite and cases, in the folder of the demo; the suite's path."""
    folder = home / "config"
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    models = {
        "endpoints": {"scripted": {"base_url": model_url, "model": "scripted"}, "local": {"serving_endpoint": "x"}},
        "routes": {"quality": {"endpoints": ["scripted"]}, "embeddings": {"endpoints": ["local"]}},
    }
    config = {
        "agents": {desk.AGENT: {"class": "tool_agent", "options": {"prompt": desk.PROMPT}}},
        "models": models,
        "telemetry": {"flush_seconds": FLUSH_SECONDS},
    }
    (folder / "lakemesh.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "prompts" / f"{desk.PROMPT}_v1.jinja").write_text(desk.POOR)
    (home / "suite.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    write_jsonl(home / "cases.jsonl", desk.cases())
    return home / "suite.yaml"


@dataclass(kw_only=True)
class Demo:
    """One walk through the demo. `story` is what the report tells."""

    home: Path
    suite: "Suite"
    services: "Services"
    bench: "Bench"
    promotion: Promotion
    console: Console
    story: Story = field(default_factory=Story)

    def tell(self, step: str, figure: str, good: bool) -> None:
        self.story.steps.append((step, figure, good))
        self.console.print(f"[{'green' if good else 'red'}]{step}[/]: {figure}", highlight=False)

    async def evaluate(self, step: str, splits: Sequence[str]) -> "Outcome":
        from lakemesh.evaluation.evaluating import evaluate, report
        from lakemesh.evaluation.targets import EngineTarget

        suite = self.suite.model_copy(update={"splits": list(splits)})
        outcome = await evaluate(suite, self.bench, EngineTarget(self.services.router))
        report(outcome, self.home / "evaluation" / step)
        figures = ", ".join(f"{name} {metric.mean:.2f}" for name, metric in outcome.run.metrics.items())
        self.tell(step, f"{figures}: the gates {'pass' if outcome.passed else 'fail'}", outcome.passed)
        return outcome

    async def optimize(self) -> int:
        from lakemesh.evaluation.evaluating import scorers_of
        from lakemesh.evaluation.optimization import Candidates, optimize_prompt
        from lakemesh.evaluation.targets import EngineTarget

        champion = self.promotion.store.get(desk.PROMPT, 1)
        target = EngineTarget(self.services.router)
        scorers = scorers_of(self.suite, self.bench, {})
        candidates = Candidates(champion, self.services.prompts, self.suite, target, scorers, self.bench.spending)
        dataset = await self.dataset()
        folder = self.home / "optimization"
        found = await optimize_prompt(
            candidates, dataset, self.bench.models, route="quality", calls=CALLS, folder=folder
        )
        self.tell("optimize", f"{found.why}; {found.candidates} candidates, {found.calls} executions", found.gain)
        self.story.candidates = json.loads((folder / "candidates.json").read_text())
        self.story.before, self.story.after = champion.source, found.source
        return await self.promotion.add_version(desk.PROMPT, found.source, why=found.why)

    async def dataset(self) -> Any:
        from lakemesh.evaluation.case_tables import open_dataset

        return await open_dataset(self.suite.dataset, self.services.workspace)

    async def promote(self, version: int) -> None:
        await self.promotion.promote(desk.PROMPT, version, why="proved on the hold-out")
        await self.services.prompts.refresh()
        self.tell("promote", f"version {version} is the champion", True)

    async def worsen(self, url: str) -> None:
        """A worse text is given half of the sessions, and people's thumbs say what they think of each answer."""
        version = await self.promotion.add_version(desk.PROMPT, desk.WORSE, why="somebody made it shorter")
        await self.promotion.split(desk.PROMPT, version, SHARE, why="half of the sessions")
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            await self.in_force(client)
            self.tell("worsen", f"version {version}, a shorter text, serves half of the sessions", False)
            given = 0
            for _ in range(MOST_LOOKS):
                await self.sessions(client, given, given + SESSIONS_A_LOOK)
                given += SESSIONS_A_LOOK
                arms = await self.arms_of(given)
                decision = await act(self.promotion, desk.PROMPT, arms, Rules())
                self.look(arms, decision)
                if decision != "go_on":
                    break
            await self.in_force(client)
            good = decision == "roll_back"
            self.tell(decision, f"by itself, after {given} sessions: {await self.ask(client)}", good)

    def look(self, arms: tuple[Arm, Arm], decision: str) -> None:
        ratio = log_ratio(*arms, Rules().effect)
        self.story.looks.append(Look(champion=arms[0], challenger=arms[1], log_ratio=ratio, decision=decision))

    async def in_force(self, client: httpx.AsyncClient) -> None:
        (await client.post("/api/prompts/refresh")).raise_for_status()

    async def ask(self, client: httpx.AsyncClient, message: str = "What about return of a lamp?") -> str:
        sent = {"agent_name": desk.AGENT, "data": {"message": message}}
        return str((await client.post("/api/execute", json=sent)).json()["result"]["text"])

    async def sessions(self, client: httpx.AsyncClient, first: int, last: int) -> None:
        """One question and one thumb each."""
        cases = desk.cases()

        async def session(number: int) -> None:
            case = cases[number % len(cases)]
            sent = {"agent_name": desk.AGENT, "data": case.inputs, "session_id": f"session-{number}"}
            found = (await client.post("/api/execute", json=sent)).json()
            told = {
                "execution_id": found["metadata"]["execution_id"],
                "value": contentment(case, found["result"]["text"]),
            }
            (await client.post("/api/feedback", json=told)).raise_for_status()

        async with asyncio.TaskGroup() as group:
            for number in range(first, last):
                group.create_task(session(number))

    async def arms_of(self, sessions: int) -> tuple[Arm, Arm]:
        """The experiment's arms, once all of the sessions so far are in the tables."""
        async with asyncio.timeout(WRITTEN_SECONDS):
            while True:
                arms = await current_arms(self.promotion, self.services.workspace, self.bench.schema, desk.PROMPT)
                if arms[0].sessions + arms[1].sessions >= sessions:
                    return arms
                await asyncio.sleep(FLUSH_SECONDS)


def contentment(case: Case, text: str) -> float:
    """How much of what the case is about they were told who asked."""
    facts = case.expectations.facts or ["cannot help"]
    return sum(fact in text for fact in facts) / len(facts)


Serve = Callable[..., AbstractContextManager[int]]
"""Runs a server on a home and gives its port."""


async def walk(home: Path, suite_file: Path, console: Console, server: Serve) -> Path:
    from lakemesh.composition.services import open_services
    from lakemesh.config.settings import Settings
    from lakemesh.evaluation.evaluating import bench_of
    from lakemesh.evaluation.suite import read_suite

    folder = home / "config"
    async with open_services(Settings(home=home, config_folder=folder)) as services:
        suite, config = read_suite(suite_file), services.config.current
        bench = bench_of(services.workspace, config, suite)
        promotion = Promotion(config.prompts, services.workspace, schema=bench.schema, user=USER)
        await promotion.load()
        demo = Demo(
            home=home, suite=suite, services=services, bench=bench, promotion=promotion, console=console
        )  # fmt: skip
        await demo.evaluate("version 1", suite.splits)
        version = await demo.optimize()
        await demo.promote(version)
        await demo.evaluate(f"version {version} on the hold-out", ["holdout"])
        with server(home, LAKEMESH_CONFIG_FOLDER=str(folder)) as port:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                demo.tell("serve", await demo.ask(client), True)
            await demo.worsen(url)
        demo.story.moves = await promotion.history(desk.PROMPT)
    return write_story(home / "report.html", demo.story)


async def run(home: Path, console: Console, server: Serve) -> Path:
    """The report's path."""
    async with desk.scripted_endpoint() as url:
        return await walk(home, write_files(home, url), console, server)
