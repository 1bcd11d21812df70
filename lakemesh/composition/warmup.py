"""What the first request would wait for, done before there is one: the server is ready when it has been."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import Any

import structlog

from lakemesh.errors import LakemeshError

logger = structlog.get_logger(__name__)

LONGEST_SECONDS = 5.0
"""For one part; the server is ready without it then."""

Parts = Mapping[str, Callable[[], Awaitable[Any]]]


class Warmup:
    """Each part is tried once. One that fails does not keep the server from its requests: it is degraded, and says so
    itself at `/health/ready`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = {
            name: loop.create_task(self._warm(name, part), context=Context()) for name, part in self._parts.items()
        }

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def unfinished(self, within_seconds: float) -> list[str]:
        """What is not warm yet, after waiting so long for it."""
        waiting = [task for task in self._tasks.values() if not task.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=within_seconds)
        return [name for name, task in self._tasks.items() if not task.done()]

    async def _warm(self, name: str, part: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await part()
        except (LakemeshError, TimeoutError, OSError) as error:
            logger.warning("not warm", part=name, reason=getattr(error, "detail", None) or str(error))
        except Exception:
            logger.exception("not warm", part=name)
