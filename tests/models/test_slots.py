"""Slots of an endpoint: never more than there are, none lost, callers in turn."""

import asyncio
import os
import random

import pytest

from lakemesh.models.slots import FairSlots

pytestmark = pytest.mark.anyio

ROUNDS = int(os.environ.get("LAKEMESH_SLOT_ROUNDS", "20"))


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_no_slot_is_lost_whoever_leaves(seed: int) -> None:
    chance = random.Random(seed)
    slots, taken, most = FairSlots(3), 0, 0

    async def work(caller: str) -> None:
        nonlocal taken, most
        await slots.acquire(caller)
        taken += 1
        most = max(most, taken)
        try:
            await asyncio.sleep(chance.random() * 0.002)
        finally:
            taken -= 1
            slots.release()

    tasks = [asyncio.ensure_future(work(f"caller {chance.randrange(5)}")) for _ in range(200)]
    for task in chance.sample(tasks, 120):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait(tasks)
    assert (taken, most) == (0, 3)
    async with asyncio.timeout(5):  # all three are there again
        await asyncio.gather(*(slots.acquire("last") for _ in range(3)))


async def test_callers_take_turns() -> None:
    slots = FairSlots(1)
    await slots.acquire("first")
    order: list[str] = []

    async def work(caller: str) -> None:
        await slots.acquire(caller)
        order.append(caller)
        slots.release()

    tasks = [asyncio.ensure_future(work(caller)) for caller in ["ann"] * 4 + ["bob"] * 2 + ["eve"]]
    await asyncio.sleep(0)
    slots.release()
    await asyncio.wait(tasks)
    assert order == ["ann", "bob", "eve", "ann", "bob", "ann", "ann"]
