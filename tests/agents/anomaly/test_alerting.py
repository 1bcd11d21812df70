"""Alerts told by mail, and acted on once a person approves, whatever dies in between."""

import asyncio
import datetime as dt
import hashlib
import ssl
import uuid
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lakemesh.agents.anomaly.notify import Notifier
from lakemesh.agents.anomaly.schemas import Alert, Mail, Notify
from tests.agents.anomaly.test_anomaly import NOW, filled
from tests.agents.test_actions import client_of, interrupted, until
from tests.judge import judged
from tests.server import write_config

pytestmark = pytest.mark.anyio

ALERT = Alert(
    alert_id="a1", watch="orders", check="volume", kind="volume", severity="high", table="main.shop.orders",
    bucket_start=NOW, bucket_end=NOW + dt.timedelta(hours=1), value=1, expected=20, score=-19,
    explanation="1 rows, where 20 ± 1 were to be expected.", evidence=[{"note": "4111 1111 1111 1111"}],
)  # fmt: skip


class Mailbox:
    """What aiosmtpd hands over."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.messages.append((envelope.rcpt_tos, envelope.content))
        return "250 OK"


class Port0(Controller):
    def _trigger_server(self) -> None:  # it asks the port it was given, which is none
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """For `localhost`, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "public.pem").write_bytes(public)
    (tmp_path / "both.pem").write_bytes(private + public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    return tmp_path / "public.pem", context


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_over_tls_to_a_server_that_is_who_it_says(
    security: str, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    public, context = certificate
    mailbox = Mailbox()
    how = {"tls_context": context, "require_starttls": True} if security == "starttls" else {"ssl_context": context}
    controller = Port0(mailbox, hostname="127.0.0.1", port=0, **how)
    await asyncio.to_thread(controller.start)
    try:
        mail = Mail(
            host="localhost", port=controller.port, security=security, sender="mesh@example.com", to=["on@call.example"]
        )
        trusted = Notify(mail=mail, to_private=True, certificates=str(public))
        assert await Notifier(trusted).tell([ALERT, ALERT]) == []
        [(to, content)] = mailbox.messages
        assert to == ["on@call.example"]
        message = message_from_bytes(content, policy=policy.default)
        assert message["subject"].endswith("and 1 more")
        assert b"4111" not in content
        [stranger] = await Notifier(trusted.model_copy(update={"certificates": None})).tell([ALERT])
        assert "SSLCertVerificationError" in stranger
        [private] = await Notifier(trusted.model_copy(update={"to_private": False})).tell([ALERT])
        assert "not public" in private
        assert len(mailbox.messages) == 1
    finally:
        await asyncio.to_thread(controller.stop)


async def test_a_webhook_into_the_servers_own_network_is_not_asked() -> None:
    hook = {"url": "http://127.0.0.1:9/hook"}
    [private] = await Notifier(Notify.model_validate({"webhooks": [hook]})).tell([ALERT])
    assert "InvalidRequest" in private


AGENTS = """
  watch:
    class: anomaly
    timeout_seconds: 60
    options:
      watches:
        orders:
          table: main.shop.orders
          time: at
          evidence: [id, amount]
          rules:
            large:
              condition: amount > 10000
              proposal:
                agent: quarantine
                description: copy the hour's rows to the quarantine
                data:
                  statement: >
                    CREATE OR REPLACE TABLE main.quarantine.orders AS
                    SELECT * FROM main.shop.orders WHERE at >= CAST(:since AS TIMESTAMP) AND amount > 10000
                  parameters: {since: "{bucket_start}"}
  quarantine: {class: write_sql, options: {sandboxes: [main.quarantine], schemas: [main.shop]}}
  query: {class: query, options: {schemas: [main.agents, main.quarantine]}}
"""
MORE = """
approvals: {approvers: {users: [bob]}}
invocations: {lease_seconds: 2, retry_seconds: 0.1, park_seconds: 0.2}
auth:
  tokens:
""" + "".join(
    f"    - {{user: {name}, sha256: {hashlib.sha256(name.encode()).hexdigest()}}}\n" for name in ("ann", "bob")
)


@pytest.fixture
def database(postgres: str) -> str:
    name = f"alerts_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("/postgres?", f"/{name}?")


def rows(client: httpx.Client, statement: str) -> list:
    answer = client.post("/api/execute", json={"agent": "query", "data": {"statement": statement}})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["rows"]


@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=judged)])
def test_what_is_proposed_is_done_once_a_person_approves(how: str, tmp_path: Path, database: str) -> None:
    """The server is stopped or killed while it waits; the moment that was looked at stays what it was."""
    asyncio.run(filled(tmp_path / "again"))
    config = write_config(tmp_path / "config", AGENTS, MORE)
    asked = {"agent_name": "watch", "input": {"now": NOW.isoformat()}, "background": True, "id": str(uuid.uuid4())}
    place = f"/api/invocations/{asked['id']}"
    with interrupted(how, tmp_path, config, database) as start:
        with client_of(start(), "ann") as ann:
            assert ann.post("/api/invocations", json=asked).status_code == 202
            until(lambda: ann.get(place).json()["status"] == "waiting")
        again = start()
        with client_of(again, "ann") as ann, client_of(again, "bob") as bob:
            [shown] = until(lambda: bob.get("/api/approvals", params={"status": "pending"}).json()["approvals"])
            assert shown["action"] == "copy the hour's rows to the quarantine"
            decision = {"decision": "approve", "comment": "yes"}
            assert bob.post(f"/api/approvals/{shown['id']}/decision", json=decision).status_code == 200
            ended = until(lambda: (found := ann.get(place).json())["status"] in ("completed", "failed") and found)
            report = ended["output"]
            assert [alert["check"] for alert in report["alerts"]] == ["large"], ended
            assert [outcome["action"] for outcome in report["outcomes"]] == ["done"]
            assert rows(ann, "SELECT amount FROM main.quarantine.orders") == [[12345.0]]
            assert rows(ann, "SELECT count(*), count(notified_at) FROM main.agents.alerts") == [[1, 1]]
            at_once = ann.post("/api/execute", json={"agent": "watch", "data": {"now": NOW.isoformat()}}).json()
            assert (at_once["result"]["alerts"], at_once["result"]["known"]) == ([], 1)
