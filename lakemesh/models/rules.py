"""Which route answers: the one that was asked for, or the one its rules name."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakemesh.config.models import ModelsConfig, Priority, RuleConfig
from lakemesh.deadline import Deadline
from lakemesh.errors import ModelUnavailable
from lakemesh.models.answers import Message
from lakemesh.scope import current_scope


def choose_route(
    config: ModelsConfig,
    name: str,
    *,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    priority: Priority,
    deadline: Deadline,
) -> str:
    """The first rule of the route that holds decides; rules of the route it names are not asked again. Raises
    `ModelUnavailable` for a route that is not configured."""
    route = config.routes.get(name)
    if route is None:
        known = ", ".join(config.routes) or "none"
        raise ModelUnavailable(f"There is no model route {name!r:.60} in the configuration; there are: {known}.")
    if not route.rules:
        return name
    characters = sum(len(str(message.get("content") or "")) for message in messages)
    return next((rule.route for rule in route.rules if holds(rule, characters, bool(tools), priority, deadline)), name)


def holds(rule: RuleConfig, characters: int, has_tools: bool, priority: Priority, deadline: Deadline) -> bool:
    conditions = (
        rule.characters_above is None or characters > rule.characters_above,
        rule.characters_below is None or characters < rule.characters_below,
        rule.tools is None or rule.tools == has_tools,
        rule.priority is None or rule.priority == priority,
        rule.seconds_left_below is None or deadline.remaining_seconds() < rule.seconds_left_below,
        rule.spent_usd_above is None or spent_usd() > rule.spent_usd_above,
    )
    return all(conditions)


def spent_usd() -> float:
    """What the models of the running execution have cost so far."""
    scope = current_scope()
    return sum(use.cost_usd for use in scope.model_uses) if scope is not None else 0.0
