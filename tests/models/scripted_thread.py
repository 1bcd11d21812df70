"""The scripted model server in a thread, for tests whose lakemesh server runs in one of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lakemesh.testing.wire import calls, says
from tests.models.scripted_server import Reply, ScriptedServer, scripted_server

__all__ = ["calls", "conversation", "says", "scripted_model", "told"]


@contextmanager
def scripted_model(*script: Reply) -> Iterator[ScriptedServer]:
    """A scripted server on a loop of its own, until the block ends."""
    ready = threading.Event()
    found: list[ScriptedServer] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with scripted_server(*script) as server:
            found.append(server)
            ready.set()
            await stop.wait()
        stalled = asyncio.all_tasks() - {asyncio.current_task()}
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def conversation(request: dict) -> list[dict]:
    return request["messages"]


def told(request: dict) -> list[str]:
    """What the tools answered, as the model is shown it."""
    return [message["content"] for message in request["messages"] if message["role"] == "tool"]
