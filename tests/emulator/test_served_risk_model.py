"""The risk model behind Model Serving: an endpoint made as the bundle declares it scores what the agent computes."""

import asyncio
from pathlib import Path

import httpx
import pytest
import yaml

from lakemesh.agents.fraud.features import FEATURES, compute_features
from lakemesh.agents.fraud.risk_model import load_model
from lakemesh.jobs import risk_training
from lakemesh.jobs.card_transactions import Method, generate
from lakemesh.jobs.train_risk import split_before, train_from_table
from lakemesh.jobs.transactions_io import store_transactions
from lakemesh.lakehouse.endpoints import EndpointError
from lakemesh.lakehouse.workspace import Workspace
from tests.deploy.shell import REPOSITORY
from tests.emulator.served import Emulator
from tests.server import running_server

pytestmark = pytest.mark.anyio

CONFIG = """
agents:
  risk_scorer: {class: "lakemesh.agents.fraud.risk_scorer:RiskScorer", options: {route: custom, model_version: 1}}
models:
  endpoints:
    risk: {serving_endpoint: shop-risk}
    gte: {serving_endpoint: databricks-gte-large-en}
  routes:
    custom: {endpoints: [risk], attempts: 1}
    quality: {endpoints: [gte]}
    embeddings: {endpoints: [gte]}
  embedding_dimension: 1024
"""


def declared(version: str) -> dict:
    """The endpoint of `resources/optional/risk_model.yml`, its variables filled in."""
    text = (REPOSITORY / "resources/optional/risk_model.yml").read_text()
    for name, value in {"app": "shop", "catalog": "main", "schema": "agents", "risk_version": version}.items():
        text = text.replace(f"${{var.{name}}}", value)
    return yaml.safe_load(text)["resources"]["model_serving_endpoints"]["risk"]


async def test_the_endpoint_scores_and_the_file_stands_in(
    workspace: Workspace, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(risk_training, "TREES", 8)
    data = generate(days=85, seed=11, method=Method(customers=200, terminals=300))
    await store_transactions(workspace, data)
    split = split_before(int(data.time.max()))
    await train_from_table(workspace, split)
    await train_from_table(workspace, split, kinds=["ensemble"])
    assert emulator.call("POST", "/api/2.0/serving-endpoints", declared("2")).status_code == 200
    rows = compute_features(data)[-50:]
    served = await load_model(workspace.volumes, 2)
    endpoint = workspace.endpoints.serving_endpoint("shop-risk")
    assert await endpoint.predict(FEATURES, rows.tolist(), timeout_seconds=20) == served.scores(rows).tolist()
    turned = [list(reversed(row)) for row in rows.tolist()]
    same = await endpoint.predict(list(reversed(FEATURES)), turned, timeout_seconds=20)
    assert same == served.scores(rows).tolist()
    for columns, given in ((["amount"], [[1.0]]), (FEATURES, [["x"] * len(FEATURES)])):
        with pytest.raises(EndpointError):
            await endpoint.predict(columns, given, timeout_seconds=20)
    await workspace.volumes.write("/Volumes/main/agents/configs/lakemesh.yaml", CONFIG.encode(), overwrite=True)
    for name, value in {
        "DATABRICKS_HOST": emulator.url,
        "DATABRICKS_CLIENT_ID": "emulator-client",
        "DATABRICKS_CLIENT_SECRET": "emulator-secret",
        "LAKEMESH_WAREHOUSE_ID": "emulator",
    }.items():
        monkeypatch.setenv(name, value)
    transaction = {
        "transaction_id": 10**9, "tx_datetime": "2018-06-24T03:00:00Z", "customer_id": 5, "terminal_id": 7,
        "amount": 190.0,
    }  # fmt: skip

    def ask(url: str, number: int) -> dict:
        sent = {"agent": "risk_scorer", "data": transaction | {"transaction_id": 10**9 + number}}
        answer = httpx.post(f"{url}/execute", json=sent, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    with running_server(tmp_path, tmp_path, workspace="databricks") as server:
        first = await asyncio.to_thread(ask, server.url, 0)
        assert not [reason for reason in first["metadata"].get("degraded", ()) if "served model" in reason]
        predicted = [one for one in emulator.requests() if one["path"].endswith("/shop-risk/invocations")]
        assert predicted, "the score came from the endpoint"
        emulator.call("DELETE", "/api/2.0/serving-endpoints/shop-risk").raise_for_status()
        second = await asyncio.to_thread(ask, server.url, 1)
    assert "served model" in " ".join(second["metadata"]["degraded"])
    assert first["result"]["score"] != second["result"]["score"], "another model, by the file"
