"""Answers given again to the very same request, where a route's configuration asks for it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cachetools import TTLCache

from lakemesh.config.models import CacheConfig
from lakemesh.models.answers import ChatAnswer
from lakemesh.scope import current_scope


class AnswerCache:
    """Exact: the key is a digest of the route's models and the whole request, and of the user unless answers are
    shared. Bounded by the bytes of the answers; the ones used longest ago leave first."""

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self._answers: TTLCache[str, ChatAnswer] = TTLCache(
            config.max_bytes, config.lifetime_seconds, getsizeof=size_of
        )

    def key(self, models: list[str], request: Mapping[str, Any]) -> str | None:
        """None when the answer may not be kept: there is no user it could be kept for."""
        scope = current_scope()
        if scope is None and not self.config.shared:
            return None
        user = None if self.config.shared or scope is None else scope.identity.user
        text = json.dumps([user, models, request], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> ChatAnswer | None:
        answer = self._answers.get(key)
        return replace(answer, cached=True, input_tokens=0, output_tokens=0) if answer is not None else None

    def put(self, key: str, answer: ChatAnswer) -> None:
        """Keep a whole answer; one that was cut off, or that is larger than the cache, is not kept."""
        if answer.finish_reason in ("stop", "tool_calls") and size_of(answer) <= self.config.max_bytes:
            self._answers[key] = answer


def size_of(answer: ChatAnswer) -> int:
    """About the bytes an answer holds in memory."""
    return 500 + 2 * len(json.dumps(answer.message, default=repr))
