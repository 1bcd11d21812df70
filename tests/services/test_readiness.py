"""A server is ready when what its first request would wait for has been tried."""

import asyncio

import pytest

from lakemesh.composition.warmup import Warmup
from lakemesh.errors import DatabaseUnavailable
from lakemesh.services.health import Health

pytestmark = pytest.mark.anyio


async def answer(warmup: Warmup, within_seconds: float = 0.01) -> tuple[int, bytes]:
    async def nothing() -> str:
        return ""

    health = Health(
        checks={}, warming=lambda _: warmup.unfinished(within_seconds), accepting=lambda: True, prometheus=nothing
    )
    response = await health.ready(Request())
    return response.status_code, bytes(response.body)


class Request:
    scope: dict[str, object] = {"type": "http"}


async def test_it_is_not_ready_while_a_part_warms_up_and_says_which() -> None:
    opened = asyncio.Event()

    async def failing() -> None:
        raise DatabaseUnavailable("Away.")

    warmup = Warmup({"database": opened.wait, "other": failing})
    warmup.begin()
    status, body = await answer(warmup)
    assert (status, b'"waits_for":["database"]' in body) == (503, True)
    opened.set()
    assert await warmup.unfinished(5) == []
    await warmup.close()
