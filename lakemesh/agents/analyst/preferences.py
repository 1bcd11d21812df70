"""How a user likes to be answered: said once, remembered by the memory, and heeded from then on."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from cachetools import TTLCache
from pydantic import BaseModel

from lakemesh.agents.base import AgentContext
from lakemesh.errors import LakemeshError

Name = Literal["language", "currency", "units", "breakdown"]

KIND = "preference"
SHARE = 0.1
"""Of the time that is left."""

KNOWN_USERS, KNOWN_SECONDS = 1_000, 60.0
STATED = re.compile(
    r"^(?:please |and )*(?:remember|always|from now on|i(?:'d| would)? (?:prefer|like|want)|my favou?rite)\b"
)
VALUES: Mapping[Name, re.Pattern[str]] = {
    "language": re.compile(r"\b(english|german|french|spanish|italian|dutch|portuguese|polish)\b"),
    "currency": re.compile(r"\b(eur|euros?|usd|dollars?|gbp|pounds?|chf|francs?|jpy|yen)\b"),
    "units": re.compile(r"\b(thousands|millions|full (?:numbers|amounts))\b"),
    "breakdown": re.compile(r"\b(?:by|per|breakdown is(?: by)?) ([a-z][a-z ]{1,40}?)(?= and | please|[.,;!?]|$)"),
}
CURRENCIES = {"euro": "EUR", "dollar": "USD", "pound": "GBP", "franc": "CHF", "yen": "JPY"}
SCALES = {"thousands": (1e3, "thousand"), "millions": (1e6, "million")}


class Preferences(BaseModel):
    """None of a user who has said nothing of it. `currency` is an ISO 4217 code: amounts are never converted."""

    language: str | None = None
    currency: str | None = None
    units: str | None = None
    breakdown: str | None = None

    @property
    def scale(self) -> tuple[float, str] | None:
        """What amounts are divided by, and what that is called."""
        return SCALES.get(self.units or "")

    def instructions(self) -> str:
        """For a model that writes the text."""
        told = []
        if self.language:
            told.append(f"Write in {self.language}.")
        if self.scale:
            told.append(f"Give amounts in {self.units}.")
        return " ".join(told)

    def notes(self, units: Sequence[str]) -> list[str]:
        """What cannot be done as they like it."""
        others = sorted({unit for unit in units if unit in ("EUR", "USD", "GBP", "CHF", "JPY")} - {self.currency or ""})
        if self.currency is None or not others:
            return []
        return [f"Amounts are in {', '.join(others)}; they are not converted to {self.currency}."]


NONE = Preferences()


def stated(question: str) -> dict[Name, str]:
    """The preferences that a sentence states; none for a question."""
    text = question.lower().strip()
    if not STATED.match(text):
        return {}
    found: dict[Name, str] = {}
    for name, pattern in VALUES.items():
        if match := pattern.search(text):
            found[name] = match[1].strip()
    if "currency" in found:
        found["currency"] = CURRENCIES.get(found["currency"].removesuffix("s"), found["currency"].upper())
    if "language" in found:
        found["language"] = found["language"].capitalize()
    return found


class Remembered:
    """The preferences of each user of one agent, in the long-term memory."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._known: TTLCache[str, Preferences] = TTLCache(KNOWN_USERS, KNOWN_SECONDS)

    async def of_caller(self, context: AgentContext) -> Preferences:
        """None, and a degraded answer, when memory is away."""
        user = context.identity.user
        if user not in self._known:
            try:
                with context.within(SHARE):
                    page = await context.memory.list(agent_id=self._agent, metadata={"kind": KIND}, limit=50)
            except LakemeshError as error:
                context.degrade(f"memory: unavailable, your preferences are not known ({error.code})")
                return NONE
            newest: dict[str, str] = {}
            for memory in page.memories:
                newest.setdefault(str(memory.metadata.get("name")), str(memory.metadata.get("value")))
            fitting = {name: value for name, value in newest.items() if name in Preferences.model_fields}
            self._known[user] = Preferences.model_validate(fitting)
        return self._known[user]

    async def keep(self, said: Mapping[Name, str], context: AgentContext) -> None:
        """Raises what the memory raises: then nothing is remembered."""
        for name, value in said.items():
            text = f"The user prefers {name}: {value}."
            metadata = {"kind": KIND, "name": name, "value": value}
            await context.memory.remember(text, agent_id=self._agent, metadata=metadata)
        known = self._known.get(context.identity.user)
        if known is None:
            known = await self.of_caller(context)
        self._known[context.identity.user] = known.model_copy(update={str(name): value for name, value in said.items()})
