"""Flags for agents, as OpenFeature has them: from configuration, or from any provider that an entry point names."""

import asyncio
import uuid
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from lakemesh.config.change import Change, Replacement
from lakemesh.config.rollouts import FlagsConfig
from lakemesh.errors import ConfigurationInvalid
from lakemesh.scope import ExecutionScope

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.provider import FeatureProvider

OURS = "lakemesh"
PROVIDERS = "lakemesh.flag_providers"
"""The group of entry points: each a class or function that makes an `openfeature.provider.FeatureProvider`."""


class Flags:
    """Clients for executions. The SDK is imported with the first use; a definition that changes is in force with the
    configuration it came with."""

    def __init__(self, *, environment: str = "") -> None:
        self._environment = environment
        self._config = FlagsConfig()
        self._provider: FeatureProvider | None = None
        self._domain = f"lakemesh-{uuid.uuid4().hex}"

    async def start(self, config: FlagsConfig) -> None:
        """Raises `ConfigurationInvalid`."""
        (await self.prepare(config)).commit()

    async def prepare(self, config: FlagsConfig) -> Change:
        """Raises `ConfigurationInvalid` for definitions that are none, and for a provider that cannot be made."""
        if config == self._config:
            return Replacement(lambda: None)
        provider = await asyncio.to_thread(make_provider, config)

        def take() -> None:
            self._config = config
            self._bind(provider)

        return Replacement(take)

    def client(self, scope: ExecutionScope) -> "OpenFeatureClient":
        """For one execution: the flag's context is its user, groups, session, agent, door, environment and the version
        that a rollout gave it. What was decided is an event of the span that is open."""
        from openfeature.client import OpenFeatureClient

        from lakemesh.rollout.flag_events import FlagEvents

        if self._provider is None:
            self._bind(make_provider(self._config))
        context = context_of(scope, self._environment)
        return OpenFeatureClient(domain=self._domain, version=None, context=context, hooks=[FlagEvents()])

    async def close(self) -> None:
        if self._provider is not None:
            await asyncio.to_thread(self._provider.shutdown)

    def _bind(self, provider: "FeatureProvider") -> None:
        from openfeature import api

        self._provider = provider
        api.set_provider_and_wait(provider, domain=self._domain)


def make_provider(config: FlagsConfig) -> "FeatureProvider":
    """Raises `ConfigurationInvalid`."""
    if config.provider == OURS:
        from lakemesh.rollout.flag_provider import ConfiguredFlags

        return ConfiguredFlags(config)
    found = [one for one in entry_points(group=PROVIDERS) if one.name == config.provider]
    if not found:
        known = sorted({OURS, *(one.name for one in entry_points(group=PROVIDERS))})
        raise ConfigurationInvalid([f"flags.provider: there is no {config.provider!r}; there are: {', '.join(known)}"])
    try:
        provider: FeatureProvider = found[0].load()(**config.options)
    except Exception as error:
        raise ConfigurationInvalid([f"flags.provider: {config.provider}: {type(error).__name__}: {error}"]) from error
    return provider


def context_of(scope: ExecutionScope, environment: str) -> "EvaluationContext":
    from openfeature.evaluation_context import EvaluationContext

    variation = scope.variation
    return EvaluationContext(
        targeting_key=scope.identity.user,
        attributes={
            "user": scope.identity.user,
            "groups": sorted(scope.identity.groups),
            "session": scope.session_id or "",
            "agent": scope.agent_name,
            "door": scope.door,
            "environment": environment,
            "rollout": variation.rollout if variation is not None else "",
            "arm": variation.arm if variation is not None else "",
        },
    )
