"""Who wants to know when a list or a resource changes, and how they are told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

LISTS = ("tools", "prompts", "resources")
MAX_URIS = 100
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"


@dataclass(frozen=True, slots=True)
class Change:
    """A list is no longer what it was, or, with kind `resource`, the resource at `uri` is not."""

    kind: Literal["tools", "prompts", "resources", "resource"]
    uri: str | None = None

    def to_message(self, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
        params: dict[str, Any] = {"uri": self.uri} if self.kind == "resource" else {}
        if meta:
            params["_meta"] = meta
        name = "resources/updated" if self.kind == "resource" else f"{self.kind}/list_changed"
        return {"jsonrpc": "2.0", "method": f"notifications/{name}", **({"params": params} if params else {})}


class Changes:
    """Tells every listener of every change, on the event loop; a listener is quick and never fails."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[Change], None]] = set()

    def tell(self, *changes: Change) -> None:
        for change in changes:
            for listener in list(self._listeners):
                listener(change)

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Begin to listen; the function that ends it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber of revision 2026-07-28 opted in to."""

    lists: frozenset[str]
    uris: frozenset[str]

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> "Wanted":
        """From a `SubscriptionFilter`; what it does not name, or names wrongly, is not wanted."""
        uris = wanted.get("resourceSubscriptions")
        found = [uri for uri in uris if isinstance(uri, str)] if isinstance(uris, list) else []
        lists = frozenset(kind for kind in LISTS if wanted.get(f"{kind}ListChanged") is True)
        return cls(lists, frozenset(found[:MAX_URIS]))

    def __contains__(self, change: Change) -> bool:
        return change.uri in self.uris if change.kind == "resource" else change.kind in self.lists

    def acknowledgement(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        params = {"_meta": meta, "notifications": self.to_filter()}
        return {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}

    def to_filter(self) -> dict[str, Any]:
        granted: dict[str, Any] = {f"{kind}ListChanged": True for kind in LISTS if kind in self.lists}
        return granted | ({"resourceSubscriptions": sorted(self.uris)} if self.uris else {})
