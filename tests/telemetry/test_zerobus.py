"""The official SDK against a local endpoint that speaks its protocol."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lakemesh.telemetry import Telemetry
from tests.telemetry.test_pipeline import running
from tests.telemetry.zerobus_server import ZerobusServer, zerobus_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[ZerobusServer]:
    with zerobus_server() as running_server:
        yield running_server


def options(server: ZerobusServer, **more: Any) -> dict[str, Any]:
    settings = {
        "endpoint": server.endpoint,
        "workspace_url": server.workspace_url,
        "client_id": "id",
        "client_secret": "secret",
        "ack_timeout_seconds": 8.0,
        **more,
    }
    return {"sinks": ["zerobus"], "zerobus": settings, "log_level": None}


def spans(telemetry: Telemetry, count: int) -> list[str]:
    names = [f"span {number}" for number in range(count)]
    for name in names:
        telemetry.tracer.start_span(name, attributes={"k": 1}).end()
    return names


async def test_rows_are_delivered_when_they_are_acknowledged(tmp_path: Path, server: ZerobusServer) -> None:
    async with running(tmp_path, **options(server)) as (telemetry, _):
        names = spans(telemetry, 2_500)
        assert await telemetry.flush()
        assert telemetry.health()["spooled_records"] == 0
    assert server.names() == names
    row = server.spans()[0]
    assert isinstance(row["time"], int)
    assert row["attributes"] == '{"k":1}'


async def test_a_broken_stream_sends_again_and_record_ids_tell_doubles(tmp_path: Path, server: ZerobusServer) -> None:
    server.break_after = 1
    async with running(tmp_path, **options(server)) as (telemetry, _):
        names = spans(telemetry, 1_000)
        assert await telemetry.flush()
    assert len(server.spans()) == 2_000
    once = {row["record_id"]: row["name"] for row in server.spans()}
    assert sorted(once.values()) == sorted(names)


async def test_a_record_over_the_limit_is_kept_aside_and_the_rest_arrives(
    tmp_path: Path, server: ZerobusServer
) -> None:
    async with running(tmp_path, max_content_characters=8_000_000, **options(server)) as (telemetry, _):
        spans(telemetry, 3)
        telemetry.tracer.start_span("poison", attributes={"blob": "x" * 5_000_000}).end()
        assert await telemetry.flush()
        health = telemetry.health()
    assert server.names() == ["span 0", "span 1", "span 2"]
    assert (health["dead_batches"], health["spooled_records"]) == (1, 0)


@pytest.mark.parametrize("trouble", ["token", "silence", "refusal"])
async def test_rows_wait_in_the_spool_while_the_other_side_is_away(
    tmp_path: Path, server: ZerobusServer, trouble: str
) -> None:
    server.token_status = 401 if trouble == "token" else 200
    server.silent = trouble == "silence"
    server.refuse = grpc.StatusCode.PERMISSION_DENIED if trouble == "refusal" else None
    async with running(tmp_path, **options(server, ack_timeout_seconds=1.0)) as (telemetry, _):
        names = spans(telemetry, 10)
        assert not await telemetry.flush()
        health = telemetry.health()
        assert (health["spooled_records"], health["dead_batches"]) == (10, 0)
        assert "Zerobus did not acknowledge" in health["degraded"]
        server.token_status, server.silent, server.refuse = 200, False, None
        server.received.clear()
        assert await telemetry.flush()
    assert server.names() == names


async def test_a_batch_the_server_calls_invalid_becomes_a_dead_letter(tmp_path: Path, server: ZerobusServer) -> None:
    server.refuse = grpc.StatusCode.INVALID_ARGUMENT
    async with running(tmp_path, **options(server)) as (telemetry, _):
        spans(telemetry, 10)
        assert await telemetry.flush()
        health = telemetry.health()
    assert (health["dead_batches"], health["spooled_records"]) == (1, 0)
