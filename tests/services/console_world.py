"""What the console is shown with: agents of every kind, a model that follows a script, and a day of work before now."""

import asyncio
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakemesh.composition.services import open_services
from lakemesh.config.settings import Settings
from lakemesh.scope import ModelUse, PromptUse
from lakemesh.telemetry import ExecutionRecord
from tests.models.scripted_thread import calls, says, scripted_model
from tests.server import Server, running_server, write_config

FUNCTIONS = "tests.agents.sample_functions"
SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  echo: {{class: lakemesh.agents.echo:EchoAgent}}
  add_days: {{function: "{FUNCTIONS}:add_days"}}
  assistant:
    class: tool_agent
    description: Answers questions about dates, with a calendar to look into.
    options: {{instructions: You help with dates and deadlines. Use the calendar., tools: [add_days]}}
  asker: {{class: "{SAMPLES}:AskingAgent"}}
  writer: {{class: "{SAMPLES}:WriterAgent"}}
  trouble: {{class: "{SAMPLES}:TroubleAgent", timeout_seconds: 1.0}}
  caller: {{class: "{SAMPLES}:CallerAgent", options: {{callee: echo}}}}
"""
MODELS = """
models:
  endpoints:
    scripted: {{base_url: "{url}", model: claude-sonnet, timeout_seconds: 20, input_price: 3.0, output_price: 15.0}}
    offline: {{serving_endpoint: offline}}
  routes:
    quality: {{endpoints: [scripted], attempts: 1}}
    fast: {{endpoints: [scripted], attempts: 1}}
    embeddings: {{endpoints: [offline]}}
"""
USERS = ("ann", "bob", "root")
TOKENS = ", ".join(f"{{user: {user}, sha256: {hashlib.sha256(user.encode()).hexdigest()}}}" for user in USERS)
WITH_TOKENS = f"auth: {{tokens: [{TOKENS}]}}\nserver: {{operators: [root], trace_callers: [bob]}}\n"
BUDGETS = "budgets: {limits: {each-user: {per: user, period: day, calls: 5000, usd: 5}}}\n"
TELEMETRY = "telemetry: {flush_seconds: 0.1, capture_content: true}\n"


def model(request: dict) -> bytes:
    """Looks into the calendar once, then answers from what it said."""
    *_, last = request["messages"]
    if last["role"] == "tool":
        return says(f"That is {json.loads(last['content'])}, a Sunday. Shall I put it into your calendar?")
    if "30 days" in str(last["content"]):
        return calls(("add_days", {"day": "2026-11-20", "days": 30}))
    return says("You are welcome. Ask me about any date.")


@contextmanager
def console_server(root: Path, more: str = TELEMETRY) -> Iterator[Server]:
    """A server on `root`; started again on the same folder it finds what was written before."""
    with scripted_model(model) as scripted:
        folder = write_config(root / "config", AGENTS, more=more + BUDGETS, models=MODELS.format(url=scripted.base_url))
        with running_server(root / "home", folder) as server:
            yield server


def write_history(root: Path, *, hours: int = 24, executions: int = 400) -> None:
    """Work of the hours before now, as a server that ran then would have recorded it."""
    with scripted_model(model) as scripted:
        folder = write_config(root / "config", AGENTS, more=TELEMETRY, models=MODELS.format(url=scripted.base_url))
        asyncio.run(record(Settings(home=root / "home", config_folder=folder, port=0), hours, executions))


async def record(settings: Settings, hours: int, executions: int) -> None:
    chance = random.Random(7)
    async with open_services(settings) as services:
        for number in range(executions):
            services.telemetry.record_execution(one(chance, number, hours, executions))
        await services.telemetry.flush()


def one(chance: random.Random, number: int, hours: int, executions: int) -> ExecutionRecord:
    share = number / executions
    day = 0.5 + 0.5 * math.sin(share * 2 * math.pi)
    at = time.time() - hours * 3_600 * (1 - share) - chance.random() * 1_800 * (1.2 - day)
    agent = chance.choices(["assistant", "echo", "writer", "trouble"], [6, 2, 2, 1])[0]
    failed = chance.random() < (0.5 if agent == "trouble" else 0.02)
    use = ModelUse(
        endpoint="scripted", model="claude-sonnet", route="quality", input_tokens=chance.randint(300, 2_000),
        output_tokens=chance.randint(20, 400), cost_usd=chance.uniform(0.001, 0.02),
        latency_ms=chance.uniform(300, 900),
    )  # fmt: skip
    prompt = PromptUse(name="dates", version=chance.choice([1, 2]), label="latest")
    return ExecutionRecord(
        execution_id=f"{chance.getrandbits(128):032x}", parent_execution_id=None, timestamp_ns=int(at * 1e9),
        agent_id=agent, session_id=f"session-{number // 6}" if agent == "assistant" else None,
        user=chance.choice(["ann", "bob"]), door=chance.choice(["api", "api", "mcp", "a2a"]),
        trace_id=f"{chance.getrandbits(128):032x}", span_id=f"{chance.getrandbits(64):016x}",
        input_data='{"message": "When is the invoice due?"}', output_data=None if failed else '{"text": "In 30 days."}',
        latency_ms=chance.lognormvariate(6.2 if agent == "assistant" else 3, 0.5), success=not failed,
        error_code="agent_failed" if failed else None, error_message="It failed." if failed else None,
        confidence=None, degraded=("the index is away",) if chance.random() < 0.01 else (),
        model_uses=(use,) if agent == "assistant" else (),
        prompt_uses=(prompt,) if agent == "assistant" else (),
    )  # fmt: skip
