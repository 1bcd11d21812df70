"""Moving what serves: a prompt's next version, its champion, its share in an experiment, and back.

Every move is written down twice: in the volume's `.selections.json`, from which servers read it, and as a line of the
table `prompt_moves`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from opentelemetry.trace import NoOpTracer

from lakemesh.config.prompts import PromptsConfig, PromptSelection
from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse.arrow import rows_to_arrow
from lakemesh.lakehouse.tables import Column, TableSpec
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.prompts import PromptStore
from lakemesh.prompts.selections import FILE_NAME, MAX_HISTORY, Chosen, Move, Selections, parse_selections
from lakemesh.prompts.templates import Prompt, parse_prompt, split_front_matter
from lakemesh.prompts.versions import choose_version

CHAMPION, CHALLENGER = "champion", "challenger"
MOVE_COLUMNS = (
    Column("timestamp", "TIMESTAMP"),
    Column("prompt", "STRING"),
    Column("action", "STRING"),
    Column("by", "STRING"),
    Column("why", "STRING"),
    Column("before", "STRING"),
    Column("after", "STRING"),
)


class Promotion:
    """The prompts of one volume. `schema` is where the audit lines go, `user` who is written there."""

    def __init__(self, config: PromptsConfig, workspace: Workspace, *, schema: str, user: str) -> None:
        self._config = config
        self._workspace = workspace
        self._table = f"{schema}.prompt_moves"
        self._user = user
        self.store = PromptStore(config, volumes=workspace.volumes, tracer=NoOpTracer())

    async def load(self) -> None:
        await self.store.refresh()

    def versions(self, name: str) -> list[int]:
        """Raises `NotFound`."""
        found = self.store.list_versions().get(name)
        if not found:
            known = ", ".join(self.store.list_versions()) or "none"
            raise NotFound(f"There is no prompt {name!r:.60}; there are: {known}.")
        return found

    def champion(self, name: str) -> int:
        """The version that serves outside of any experiment."""
        selection = self.store.selection(name).model_copy(update={"split": {}})
        return choose_version(name, self.versions(name), selection, "")[0]

    def challenger(self, name: str) -> int | None:
        """The version in an experiment with the champion."""
        others = [version for version in self.store.selection(name).split if version != self.champion(name)]
        return others[0] if len(others) == 1 else None

    async def history(self, name: str) -> list[Move]:
        """How what serves came to be, the newest move last."""
        file = await self._read()
        return list(file.prompts[name].history) if name in file.prompts else []

    async def add_version(self, name: str, source: str, *, why: str) -> int:
        """Write a text as the next version, with the front matter of the champion. It serves nobody yet: the champion
        is pinned first, since without a selection the latest version serves. Raises `InvalidRequest` for a text that
        is no template, or needs other variables than the champion."""
        champion = self.store.get(name, self.champion(name))
        version = max(self.versions(name)) + 1
        content = await self._with_front_matter(champion, source)
        require_same_variables(champion, self.parse(name, version, content))
        if not self.store.selection(name).served():
            await self._move(name, selection_of(champion.version), "pin", f"before version {version} was added")
        await self._workspace.volumes.write(f"{self._config.volume}/{name}_v{version}.jinja", content)
        await self._record(name, "add", f"version {version}: {why}", self.store.selection(name), None)
        await self.store.refresh()
        return version

    def parse(self, name: str, version: int, content: bytes) -> Prompt:
        """Raises `InvalidRequest`."""
        from lakemesh.prompts.sandbox import PromptEnvironment

        return parse_prompt(name, version, content, PromptEnvironment())

    async def promote(self, name: str, version: int, *, why: str) -> None:
        """Have all sessions served by `version`."""
        self._require(name, version)
        await self._move(name, selection_of(version), "promote", why)

    async def split(self, name: str, version: int, share: float, *, why: str) -> None:
        """Have `version` serve a share of sessions beside the champion."""
        self._require(name, version)
        champion = self.champion(name)
        if version == champion or not 0 < share < 1:
            raise InvalidRequest(f"Give a share between 0 and 1, and a version other than the champion, {champion}.")
        selection = PromptSelection(
            alias=CHAMPION,
            aliases={CHAMPION: champion, CHALLENGER: version},
            split={champion: 1 - share, version: share},
        )
        await self._move(name, selection, "split", why)

    async def roll_back(self, name: str, *, why: str) -> int:
        """End the experiment, if there is one; else have the champion before this one serve again. The version that
        serves then. Raises `Conflict` when there is none before."""
        champion = self.champion(name)
        if not self.store.selection(name).split:
            champion = self._former(name, champion, await self.history(name))
        await self._move(name, selection_of(champion), "roll_back", why)
        return champion

    async def freeze(self, name: str, *, why: str) -> int:
        """Have the champion before this one serve again, whatever experiment runs. The version that serves then.
        Raises `Conflict` when there is none before."""
        former = self._former(name, self.champion(name), await self.history(name))
        await self._move(name, selection_of(former), "freeze", why)
        return former

    def _former(self, name: str, champion: int, moves: Sequence[Move]) -> int:
        """The version behind the newest promotion that made `champion` one."""
        versions = self.versions(name)
        for move in reversed(moves):
            before, _ = choose_version(name, versions, move.before.model_copy(update={"split": {}}), "")
            if move.action == "promote" and before != champion:
                return before
        raise Conflict(f"There is no champion of {name!r} before version {champion} to go back to.")

    def _require(self, name: str, version: int) -> None:
        known = self.versions(name)
        if version not in known:
            raise NotFound(f"{name!r} has no version {version}; it has {', '.join(map(str, known))}.")

    async def _with_front_matter(self, champion: Prompt, source: str) -> bytes:
        for suffix in ("jinja", "txt"):
            path = f"{self._config.volume}/{champion.name}_v{champion.version}.{suffix}"
            try:
                content = (await self._workspace.volumes.read(path)).decode("utf-8-sig").replace("\r\n", "\n")
            except NotFound:
                continue
            _, template = split_front_matter(champion.name, content.encode())
            return (content.removesuffix(template) + source).encode()
        return source.encode()

    async def _read(self) -> Selections:
        try:
            return parse_selections(await self._workspace.volumes.read(f"{self._config.volume}/{FILE_NAME}"))
        except NotFound:
            return Selections()

    async def _move(self, name: str, selection: PromptSelection, action: str, why: str) -> None:
        file = await self._read()
        before = self.store.selection(name)
        if not before.served():
            before = selection_of(self.champion(name))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        move = Move(at=now, by=self._user, action=action, why=why, before=before)
        history = [*(file.prompts[name].history if name in file.prompts else []), move][-MAX_HISTORY:]
        chosen = {**file.prompts, name: Chosen(selection=selection, history=history)}
        content = Selections(prompts=chosen).model_dump_json(indent=1, exclude_defaults=True).encode()
        await self._workspace.volumes.write(f"{self._config.volume}/{FILE_NAME}", content, overwrite=True)
        await self._record(name, action, why, before, selection)
        await self.store.refresh()

    async def _record(
        self, name: str, action: str, why: str, before: PromptSelection, after: PromptSelection | None
    ) -> None:
        row: Mapping[str, object] = {
            "timestamp": datetime.now(UTC),
            "prompt": name,
            "action": action,
            "by": self._user,
            "why": why,
            "before": before.model_dump_json(exclude_defaults=True),
            "after": (after or before).model_dump_json(exclude_defaults=True),
        }
        tables = self._workspace.tables
        await tables.create(TableSpec(name=self._table, columns=MOVE_COLUMNS, comment="What serves, and who moved it"))
        await tables.append(self._table, rows_to_arrow(MOVE_COLUMNS, [row]))


def selection_of(version: int) -> PromptSelection:
    return PromptSelection(alias=CHAMPION, aliases={CHAMPION: version})


def require_same_variables(champion: Prompt, candidate: Prompt) -> None:
    """Agents give a prompt the variables of its champion. Raises `InvalidRequest`."""
    lost, new = champion.variables - candidate.variables, candidate.variables - champion.variables
    if lost or new:
        faults = [f"it lost {', '.join(sorted(lost))}"] if lost else []
        faults += [f"nobody gives it {', '.join(sorted(new))}"] if new else []
        raise InvalidRequest(f"The template's variables changed: {'; '.join(faults)}.")
