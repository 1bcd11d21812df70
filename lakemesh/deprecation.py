"""Public names that go: they work for one more minor version, and say what to use instead."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def deprecated(*, since: str, instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function (a coroutine function too), or a method, that goes with the minor version after `since`. Whoever
    calls it is warned (`DeprecationWarning`), at the line that does."""

    def mark(target: Callable[P, R]) -> Callable[P, R]:
        name = f"{target.__module__}.{getattr(target, '__qualname__', '')}"
        message = f"{name} is deprecated since lakemesh {since}; use {instead}."

        @functools.wraps(target)
        def warned(*arguments: P.args, **named: P.kwargs) -> R:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return target(*arguments, **named)

        return warned

    return mark
