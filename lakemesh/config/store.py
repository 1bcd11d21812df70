"""The configuration in force: read from a volume, refreshed while the server runs, the last good one kept."""

import asyncio
import hashlib
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from lakemesh.config.loader import ConfigFile, parse_config
from lakemesh.config.schema import Config
from lakemesh.errors import ConfigurationInvalid, LakemeshError, NotFound

logger = structlog.get_logger(__name__)

Subscriber = Callable[[Config], Awaitable[None] | None]


class ConfigStore:
    """`current` is always a valid configuration. A new one that is bad, or that a subscriber refuses as bad, is
    reported and not tried again until the files change; what failed for another reason is tried at every refresh."""

    def __init__(
        self,
        path: str,
        environment: str,
        *,
        read: Callable[[str], Awaitable[bytes]],
        variables: Mapping[str, str],
    ) -> None:
        stem, dot, suffix = path.rpartition(".")
        self._paths = (path, f"{stem}.{environment}{dot}{suffix}")
        self._read = read
        self._variables = variables
        self._subscribers: list[Subscriber] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._current: Config | None = None
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
        files = await self._read_files()
        self._accept(parse_config(files, self._variables), digest_of(files))
        return self.current

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` called with every new configuration, in the order of subscription."""
        self._subscribers.append(subscriber)

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
            files = await self._read_files()
            digest = digest_of(files)
            if digest == self._seen_digest:
                if digest == self._digest:
                    self._faults = []  # the volume was away and is back
                return False
            config = parse_config(files, self._variables)
            for subscriber in self._subscribers:
                outcome = subscriber(config)
                if inspect.isawaitable(outcome):
                    await outcome
        except ConfigurationInvalid as error:
            self._seen_digest = digest
            return self._refuse(error.errors)
        except LakemeshError as error:
            return self._refuse([error.detail])
        except Exception as error:  # a subscriber's fault must not end the refreshing
            logger.exception("configuration not refreshed")
            return self._refuse([f"taking it failed: {type(error).__name__}"])
        self._accept(config, digest)
        logger.info("configuration refreshed", version=self._digest[:12])
        return True

    def _refuse(self, faults: list[str]) -> bool:
        self._faults = faults
        logger.warning("configuration not refreshed", faults=faults)
        return False

    def status(self) -> Mapping[str, Any]:
        """For readiness: the version in force, its age, and why a newer one is not."""
        return {
            "version": self._digest[:12],
            "age_seconds": round(time.monotonic() - self._loaded_at, 1),
            "degraded": self._faults or None,
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

    async def _read_files(self) -> list[ConfigFile]:
        base, environment = self._paths
        files = [ConfigFile(base.rpartition("/")[2], await self._read(base))]
        with suppress(NotFound):  # an environment need not differ
            files.append(ConfigFile(environment.rpartition("/")[2], await self._read(environment)))
        return files

    def _accept(self, config: Config, digest: str) -> None:
        self._current = config
        self._digest = self._seen_digest = digest
        self._loaded_at = time.monotonic()
        self._faults = []


def digest_of(files: list[ConfigFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{len(file.content)}:".encode() + file.content)
    return digest.hexdigest()
