"""`anomaly` on a real server: what it finds, writes once, tells and proposes."""

import asyncio
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from lakemesh.lakehouse import embedded
from lakemesh.lakehouse.tables import Column, TableSpec
from tests.server import Server, running_server, write_config

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)
KEY = "a-signing-key-of-32-characters.."
COLUMNS = {"id": "BIGINT", "at": "TIMESTAMP", "amount": "DOUBLE", "country": "STRING", "note": "STRING"}
AGENTS = """
  watch:
    class: anomaly
    timeout_seconds: 60
    options:
      alerts: main.agents.alerts
      notify:
        to_private: true
        webhooks:
          - {{url: "{hook}/json", secret: "{key}"}}
          - {{url: "{hook}/slack", shape: slack}}
      watches:
        orders:
          table: main.shop.orders
          time: at
          judged: 3
          quiet: 0
          evidence: [id, at, amount, note]
          segments: [country]
          volume: {{threshold: 8, severity: high}}
          freshness: {{max_age: 3 hours}}
          distribution: {{amounts: {{column: amount}}, countries: {{column: country}}}}
          rules: {{large: {{condition: amount > 10000, description: amounts over 10000}}}}
        lost: {{table: main.shop.nothing, time: at, volume: {{}}}}
  query: {{class: query, options: {{schemas: [main.shop, main.agents]}}}}
"""


class Hook(ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def orders() -> list[dict[str, Any]]:
    """Three weeks with more orders by day than by night; then an hour of few, and one of one large amount."""
    rows: list[dict[str, Any]] = []
    begins = NOW - timedelta(days=21)
    for hour in range(21 * 24):
        at = begins + timedelta(hours=hour)
        count = 20 if 8 <= at.hour < 20 else 6
        if at == NOW - timedelta(hours=2):
            count = 1
        for number in range(count + hour % 3):
            row = {"id": len(rows), "at": at + timedelta(minutes=number), "amount": 10.0 + (number * 7 + hour) % 90}
            rows.append({**row, "country": ("de", "fr")[number % 2], "note": "mail ann@example.com"})
    rows[-1]["amount"] = 12_345.0
    return rows


async def filled(home: Path) -> None:
    workspace = await embedded.open_workspace(home)
    columns = [Column(name, kind) for name, kind in COLUMNS.items()]
    await workspace.tables.create(TableSpec(name="main.shop.orders", columns=columns))
    await workspace.tables.append("main.shop.orders", pa.Table.from_pylist(orders()))
    await workspace.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Iterator[tuple[Server, Server]]:
    """Two processes' worth of servers on one folder."""
    root = tmp_path_factory.mktemp("anomaly")
    asyncio.run(filled(root / "home"))
    config = write_config(root / "config", AGENTS.format(hook=hook.url, key=KEY))
    with running_server(root / "home", config) as one, running_server(root / "home", config) as two:
        yield one, two


def execute(server: Server, agent: str, **data: Any) -> dict:
    body = {"agent": agent, "data": data}
    answer = httpx.post(f"{server.url}/api/execute", json=body, timeout=90)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_is_unusual_is_written_once_and_told(servers: tuple[Server, Server], hook: Hook) -> None:
    """By two servers at once and by a third run after them."""
    answers: list[dict] = []

    def look(server: Server) -> None:
        answers.append(execute(server, "watch", now=NOW.isoformat(), watch="orders"))

    threads = [threading.Thread(target=look, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    look(servers[0])
    reports = [answer["result"] for answer in answers]
    written = [alert for report in reports for alert in report["alerts"]]
    assert sorted(alert["check"] for alert in written) == ["large", "volume"], reports
    assert reports[-1]["alerts"] == []
    assert reports[-1]["known"] == 2
    by_check = {alert["check"]: alert for alert in written}
    volume, large = by_check["volume"], by_check["large"]
    assert volume["score"] < -8
    assert (volume["severity"], volume["bucket_start"]) == ("high", "2026-03-20T10:00:00Z")
    assert "where 2" in volume["explanation"]
    assert "country" in volume["explanation"]
    assert large["evidence"][0]["amount"] == 12_345.0
    assert large["evidence"][0]["note"] == "mail [e-mail]"

    found = execute(servers[1], "query", statement="SELECT `check`, notified_at IS NOT NULL FROM main.agents.alerts")
    assert sorted(found["result"]["rows"]) == [["large", True], ["volume", True]]
    for path in ("/json", "/slack"):
        told = [(headers, body) for place, headers, body in hook.got if place == path]
        assert len({headers["idempotency-key"] for headers, _ in told}) == len(told) == 2
        assert b"ann@example.com" not in b"".join(body for _, body in told)
        for headers, body in told:
            if path == "/slack":
                assert json.loads(body)["blocks"][0]["text"]["type"] == "plain_text"
                continue
            said = b"v0:" + headers["x-lakemesh-request-timestamp"].encode() + b":" + body
            assert headers["x-lakemesh-signature"] == "v0=" + hmac.new(KEY.encode(), said, sha256).hexdigest()
            assert json.loads(body)["alert"]["alert_id"] in {alert["alert_id"] for alert in written}


def test_rows_that_stay_away_and_shifts_are_found(servers: tuple[Server, Server]) -> None:
    later = NOW + timedelta(hours=8)
    found = execute(servers[0], "watch", now=later.isoformat(), watch="orders")["result"]
    checks = {alert["check"]: alert for alert in found["alerts"]}
    assert {"freshness", "volume"} <= checks.keys()
    assert "newest row is of 2026-03-20 11:" in checks["freshness"]["explanation"]
    again = execute(servers[1], "watch", now=later.isoformat(), watch="orders")["result"]
    assert again["alerts"] == []


def test_a_watch_that_cannot_be_looked_at_is_told_and_stops_no_other(servers: tuple[Server, Server]) -> None:
    answer = execute(servers[0], "watch", now=NOW.isoformat())
    assert [fault["watch"] for fault in answer["result"]["faults"]] == ["lost"]
    assert any("lost.volume" in reason for reason in answer["metadata"]["degraded"])
    refused = httpx.post(
        f"{servers[0].url}/api/execute", json={"agent": "watch", "data": {"watch": "lost"}}, timeout=60
    )
    assert refused.status_code == 503
