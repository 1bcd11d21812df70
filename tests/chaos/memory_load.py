"""Remember, forget and retrieve for ever, and say what was acknowledged. Run by test_memory.py, to be killed."""

import asyncio
import random
import sys
from pathlib import Path

from lakemesh.lakehouse.embedded import open_workspace
from tests.chaos.memory_opened import open_memory


def say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201


async def main(home: Path, name: str) -> None:
    memory = open_memory(await open_workspace(home / "workspace"), home / "memory")
    await memory.start()
    known: list[str] = []

    async def remember(worker: int) -> None:
        number = 0
        while True:
            number += 1
            memory_id = await memory.remember(f"{name} {worker} {number}", agent_id=name)
            say("remembered", memory_id)
            known.append(memory_id)
            await asyncio.sleep(random.uniform(0, 0.02))

    async def forget() -> None:
        """Own ones, delivered or not, and others'."""
        while True:
            await asyncio.sleep(random.uniform(0, 0.1))
            page = await memory.list(limit=20)
            wanted = random.choice([known[-5:], known[:5], [match.memory_id for match in page.memories]])
            for memory_id in random.sample(wanted, min(2, len(wanted))):
                say("forgetting", memory_id)
                await memory.forget([memory_id])
                say("forgotten", memory_id)
                assert memory_id not in {match.memory_id for match in await memory.retrieve(name, top_k=1_000)}

    await asyncio.gather(*(remember(worker) for worker in range(4)), forget(), forget(), forget())


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
