"""Functions as a user writes them."""

import asyncio
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
