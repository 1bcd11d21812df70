"""Old memories of a user made few: many episodes become one summary."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from lakemesh.config.memory import ConsolidationConfig
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.memory.records import MemoryMatch
from lakemesh.memory.selection import is_empty
from lakemesh.memory.store import Memory

Summarise = Callable[[Sequence[str], int], Awaitable[str]]

SUMMARY = "summary"
"""The metadata's `kind` of a summary."""
SUMMARY_TOKENS = 600
EPISODES_AT_ONCE = 200
GROUPS_AT_ONCE = 50

GROUPS = """
SELECT agent_id, user FROM {table}
WHERE created_at < :before AND user IS NOT NULL AND coalesce(get_json_object(metadata, '$.kind'), '') <> :kind
GROUP BY agent_id, user HAVING count(*) >= :above ORDER BY count(*) DESC LIMIT {limit}
"""


class Episodes:
    """Finds users whose old memories with one agent are many, and puts a summary in the place of the oldest of them.
    The summary is remembered before they are forgotten: who dies in between leaves both, and loses nothing."""

    def __init__(
        self, config: ConsolidationConfig, *, workspace: Workspace, memory: Memory, table: str, summarise: Summarise
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._memory = memory
        self._table = table
        self._summarise = summarise

    async def summarise_old(self) -> tuple[int, int]:
        """How many episodes went, and how many summaries came."""
        if await is_empty(self._workspace, self._table):
            return 0, 0
        before = datetime.now(UTC) - timedelta(days=self._config.summarise_after_days)
        groups = await self._workspace.warehouse.query(
            GROUPS.format(table=self._table, limit=GROUPS_AT_ONCE),
            {"before": before, "above": self._config.summarise_above, "kind": SUMMARY},
            row_limit=GROUPS_AT_ONCE,
        )
        episodes = summaries = 0
        for agent_id, user in groups.rows:
            old = await self._old(agent_id, user, before)
            if len(old) < self._config.summarise_above:
                continue
            await self._replace(agent_id, user, old)
            episodes, summaries = episodes + len(old), summaries + 1
        return episodes, summaries

    async def _old(self, agent_id: str, user: str, before: datetime) -> list[MemoryMatch]:
        """The oldest first."""
        found = [
            one
            async for one in self._memory.export(agent_id=agent_id, user=user)
            if one.created_at is not None and one.created_at < before and one.metadata.get("kind") != SUMMARY
        ]
        return found[::-1][:EPISODES_AT_ONCE]

    async def _replace(self, agent_id: str, user: str, old: Sequence[MemoryMatch]) -> None:
        text = await self._summarise([one.text for one in old], SUMMARY_TOKENS)
        times = [one.created_at for one in old if one.created_at is not None]
        metadata = {
            "kind": SUMMARY,
            "episodes": len(old),
            "from": times[0].isoformat(),
            "to": times[-1].isoformat(),
        }
        await self._memory.remember(text, agent_id=agent_id, user=user, metadata=metadata)
        await self._memory.forget([one.memory_id for one in old], user=user)
