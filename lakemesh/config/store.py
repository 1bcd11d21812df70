"""The configuration in force: read from a volume, refreshed while the server runs, the last good one kept."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from lakemesh.config.change import Change
from lakemesh.config.live import waiting_for_restart
from lakemesh.config.loader import ConfigFile, parse_config, secret_names
from lakemesh.config.schema import Config
from lakemesh.errors import ConfigurationInvalid, LakemeshError, NotFound
from lakemesh.suggestions import did_you_mean

logger = structlog.get_logger(__name__)

ReadSecret = Callable[[str, str], Awaitable[str]]
"""By scope and key."""

FILES_BESIDE = ("policies.yaml", "budgets.yaml")
"""Beside the base file, and read after it: their owners may be others than the server's."""
DEFAULT_ENVIRONMENT = "dev"
"""The only one that needs no file."""

Prepare = Callable[[Config], Awaitable[Change]]
Listener = Callable[[Config], None]


class ConfigStore:
    """`current` is always a valid configuration. A new one is prepared by every part and then taken by all of them, or
    by none. One that is bad, or that a part refuses as bad, is reported and not tried again until the files change;
    what failed for another reason is tried at every refresh."""

    def __init__(
        self,
        path: str,
        environment: str,
        *,
        read: Callable[[str], Awaitable[bytes]],
        variables: Mapping[str, str],
        secrets: ReadSecret | None = None,
    ) -> None:
        stem, dot, suffix = path.rpartition(".")
        self._environment = environment
        self._paths = (path, f"{stem}.{environment}{dot}{suffix}")
        self._read = read
        self._variables = variables
        self._secrets = secrets
        self._parts: list[Prepare] = []
        self._listeners: list[Listener] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._current: Config | None = None
        self._started_with: Config | None = None
        self._seen_digest = ""
        self._digest = ""
        self._loaded_at = 0.0
        self._faults: list[str] = []

    @property
    def current(self) -> Config:
        assert self._current is not None, "load() comes first"
        return self._current

    async def load(self) -> Config:
        """Read the files for the first time. Raises `ConfigurationInvalid`, or the volume's error."""
        files = await self.read_files()
        self._accept(parse_config(files, await self.values(files)), digest_of(files))
        self._started_with = self.current
        return self.current

    def register(self, prepare: Prepare) -> None:
        """Have a part prepare itself for every new configuration, in the order of registration."""
        self._parts.append(prepare)

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called with every new configuration that is in force. It must be quick."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Refresh in the background until `close`."""
        self._task = asyncio.ensure_future(self._refresh_forever())

    def request_refresh(self) -> None:
        """Refresh now instead of at the end of the interval."""
        self._wake.set()

    async def refresh(self) -> bool:
        """Read the files again; True when a new configuration is in force. Raises nothing: what goes wrong is
        kept for `status`."""
        try:
            files = await self.read_files()
            digest = digest_of(files)
            if digest == self._seen_digest:
                if digest == self._digest:
                    self._faults = []  # the volume was away and is back
                return False
            config = parse_config(files, await self.values(files))
            changes = await self._prepare(config)
        except ConfigurationInvalid as error:
            self._seen_digest = digest
            return self._refuse(error.errors)
        except LakemeshError as error:
            return self._refuse([error.detail])
        except Exception as error:  # a part's fault must not end the refreshing
            logger.exception("configuration not refreshed")
            return self._refuse([f"taking it failed: {type(error).__name__}"])
        for change in changes:
            change.commit()
        self._accept(config, digest)
        logger.info("configuration refreshed", version=self._digest[:12], needs_restart=self._waiting())
        for listener in self._listeners:
            listener(config)
        return True

    async def values(self, files: Sequence[ConfigFile]) -> Mapping[str, str]:
        """Variables, and the secrets the files refer to, read anew with every version of them. One that cannot be read
        is left out: its default counts, or it is a fault by file and key."""
        found: dict[str, str] = {}
        for name in sorted(secret_names(files) - set(self._variables)):
            if self._secrets is None:
                break
            _, scope, key = name.split(".", 2)
            with suppress(NotFound):
                found[name] = await self._secrets(scope, key)
        return {**self._variables, **found}

    async def _prepare(self, config: Config) -> list[Change]:
        """Every part's change. When one refuses, what the others prepared is let go of; their faults are named too."""
        changes: list[Change] = []
        faults: list[str] = []
        try:
            for prepare in self._parts:
                try:
                    changes.append(await prepare(config))
                except ConfigurationInvalid as error:
                    faults += error.errors
            if faults:
                raise ConfigurationInvalid(faults)
        except BaseException:
            for change in reversed(changes):
                await change.discard()
            raise
        return changes

    def _waiting(self) -> list[str]:
        assert self._started_with is not None
        return waiting_for_restart(self._started_with, self.current)

    def _refuse(self, faults: list[str]) -> bool:
        self._faults = faults
        logger.warning("configuration not refreshed", faults=faults)
        return False

    def status(self) -> Mapping[str, Any]:
        """For readiness: the version in force, its age, and why a newer one is not."""
        waiting = self._waiting()
        needs_restart = [f"needs restart: {', '.join(waiting)}"] if waiting else []
        return {
            "version": self._digest[:12],
            "age_seconds": round(time.monotonic() - self._loaded_at, 1),
            "degraded": [*self._faults, *needs_restart] or None,
        }

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _refresh_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.current.refresh_seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.refresh()

    async def read_files(self) -> list[ConfigFile]:
        """The files as they are now, with nothing filled in."""
        base, environment = self._paths
        files = [ConfigFile(base.rpartition("/")[2], await self._read(base))]
        for name in FILES_BESIDE:
            with suppress(NotFound):
                files.append(ConfigFile(name, await self._read(f"{base.rpartition('/')[0]}/{name}")))
        try:
            files.append(ConfigFile(environment.rpartition("/")[2], await self._read(environment)))
        except NotFound:
            require_optional(self._environment, environment.rpartition("/")[2])
        return files

    def _accept(self, config: Config, digest: str) -> None:
        self._current = config
        self._digest = self._seen_digest = digest
        self._loaded_at = time.monotonic()
        self._faults = []


def require_optional(environment: str, file_name: str, known: Iterable[str] = ()) -> None:
    """Raises `ConfigurationInvalid` for the missing file of an environment that was chosen: its name may be mistyped,
    and the base alone is not what was asked for. `known` are environments that have a file."""
    if environment != DEFAULT_ENVIRONMENT:
        raise ConfigurationInvalid(
            [
                f"{file_name}: there is no such file, and the environment is {environment!r}"
                f"{did_you_mean(environment, known)}; correct LAKEMESH_ENVIRONMENT or -e, or add the file, empty if "
                "nothing differs"
            ]
        )


def digest_of(files: list[ConfigFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{len(file.content)}:".encode() + file.content)
    return digest.hexdigest()
