"""Tasks that agents start beside their own."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from lakemesh.scope import current_scope


class ExitRefused(RuntimeError):
    """A task of an agent tried to end the program. Its waiter is told so; the server goes on."""


def contain_exits(loop: asyncio.AbstractEventLoop) -> None:
    """From here on `SystemExit` and `KeyboardInterrupt` in a task that an agent started end that task alone: asyncio
    lets these two out of the event loop, and so out of the server."""
    loop.set_task_factory(contained_task)


def contained_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **arguments: Any
) -> "asyncio.Task[Any]":
    if current_scope() is not None and asyncio.iscoroutine(coro):
        coro = contained(coro)
    return asyncio.Task(coro, loop=loop, **arguments)


async def contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise ExitRefused(f"a task ended with {type(error).__name__}") from error
