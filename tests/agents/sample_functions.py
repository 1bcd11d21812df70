"""Functions as a user writes them."""

import asyncio
import threading
from datetime import date
from typing import Literal

from lakemesh.agents import AgentContext


def add_days(day: date, days: int = 1, unit: Literal["day", "week"] = "day") -> date:
    """The date some days later.

    day: the date to begin with
    days: how many
    """
    return date.fromordinal(day.toordinal() + days * (7 if unit == "week" else 1))


async def greet(name: str, context: AgentContext) -> str:
    """Greets, in the caller's name."""
    await asyncio.sleep(0)
    return f"{context.identity.user} greets {name}"


def broken(x: int) -> int:
    """Fails."""
    return x // 0


def anything(*values: int) -> int:
    return sum(values)


running = most_running = 0
entered = threading.Event()
left = threading.Event()


async def slow(n: int) -> int:
    """Takes a moment; below zero, for ever."""
    global running, most_running
    running += 1
    most_running = max(most_running, running)
    entered.set()
    try:
        await asyncio.sleep(0.05 if n >= 0 else 60)
        return n
    finally:
        running -= 1
        left.set()
