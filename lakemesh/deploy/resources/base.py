"""What every resource has in common: where it stands, how it differs, how it waits."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from lakemesh.deadline import Deadline
from lakemesh.deploy.bundle import Bundle, fill
from lakemesh.errors import Conflict, DeadlineExceeded, LakemeshError, NotFound

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

T = TypeVar("T")
Body = Mapping[str, Any]
Difference = tuple[str, Any, Any]
"""A path, what is there, what should be there."""

POLL_SECONDS = 0.5
MAX_SHOWN = 200
NAMING_MEMBERS = ("name", "task_key")


@dataclass(slots=True, kw_only=True)
class Target:
    """The workspace a bundle is deployed to. `facts` are what references to resources turn into: members of the bodies
    the bundle declares, and of those the workspace gave back. `user` is who deploys; `migrate` allows changes of tables
    that are more than additions."""

    client: "WorkspaceClient"
    bundle: Bundle
    user: str
    migrate: bool = False
    say: Callable[[str], None]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, resources in self.bundle.resources.items():
            for key, body in resources.items():
                self.learn(f"{kind}.{key}", body)
        self.facts = fill(self.facts, self.facts)

    def learn(self, address: str, body: Body) -> None:
        for name, value in body.items():
            if isinstance(value, str | int):
                self.facts[f"resources.{address}.{name}"] = value

    def fill(self, value: Any) -> Any:
        return fill(value, self.facts)

    def do(self, method: str, path: str, body: Body | None = None, *, query: Body | None = None) -> Any:
        """One REST call. Raises `LakemeshError`."""
        sent = None if body is None else dict(body)
        return self._translated(lambda: self.client.api_client.do(method, path, query=dict(query or {}), body=sent))

    def send(self, path: str, content: bytes, *, query: Body) -> None:
        """POST bytes. Raises `LakemeshError`."""
        self._translated(lambda: self.client.api_client.do("POST", path, query=dict(query), data=content))

    def download(self, path: str, *, query: Body) -> bytes:
        """GET bytes. Raises `LakemeshError`."""

        def download() -> bytes:
            answer = self.client.api_client.do("GET", path, query=dict(query), raw=True)
            with answer["contents"] as stream:
                content: bytes = stream.read()
            return content

        return self._translated(download)

    def _translated(self, call: Callable[[], T]) -> T:
        from lakemesh.lakehouse.databricks.translation import translate

        try:
            return call()
        except Exception as error:  # a boundary: what the SDK raises becomes what we raise
            raise translate(error) from error

    def pages(self, path: str, items: str, query: Body | None = None) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self.do("GET", path, query={**(query or {}), **token})
            yield from page.get(items) or ()
            if not page.get("next_page_token"):
                return
            token = {"page_token": page["next_page_token"]}

    def find(self, path: str) -> dict[str, Any] | None:
        """What is at `path`, or None."""
        try:
            found: dict[str, Any] = self.do("GET", path)
        except NotFound:
            return None
        return found

    def wait(self, what: str, ready: Callable[[], str | None], *, timeout_seconds: float) -> None:
        """Until `ready` gives None; the states it gives until then are shown. Raises `DeadlineExceeded`."""
        deadline, shown = Deadline.after(timeout_seconds), None
        while (state := ready()) is not None:
            if state != shown:
                self.say(f"{what}: {state.lower().replace('_', ' ')} ...")
                shown = state
            if deadline.remaining_seconds() <= POLL_SECONDS:
                raise DeadlineExceeded(f"{what} is still {state} after {timeout_seconds:.0f} s; run the command again.")
            time.sleep(POLL_SECONDS)


class Resource:
    """One thing of a workspace as it should be. `address` names it in the bundle, `name` in the workspace."""

    holds_data: ClassVar[bool] = False
    """Removed by `destroy` alone, never because it is no longer declared."""

    is_release: ClassVar[bool] = False
    """Part of what the app runs on: put back when the app does not start with it."""

    def __init__(self, address: str, declared: Body, target: Target) -> None:
        self.address = address
        self.declared = declared
        self.target = target

    @property
    def name(self) -> str:
        return str(self.body.get("display_name") or self.body.get("name"))

    @property
    def body(self) -> dict[str, Any]:
        """What was declared, references filled in as far as they are known."""
        filled: dict[str, Any] = self.target.fill(self.declared)
        return filled

    @property
    def desired(self) -> Body:
        """What `read` is compared with: members that are not in it are the workspace's own affair."""
        return self.body

    def read(self) -> Body | None:
        """What is there; None when nothing is."""
        raise NotImplementedError

    def create(self) -> None:
        raise NotImplementedError

    def refusal(self, wanted: Body, actual: Body) -> str | None:
        """Why the members of `wanted` cannot be changed from what is there; asked before anything is changed."""
        return self.unchangeable().detail if type(self).update is Resource.update else None

    def update(self, wanted: Body) -> None:
        """Give the members of `wanted` these values."""
        raise self.unchangeable()

    def delete(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Wait, within bounds, until it can be used."""

    def explain(self, several: Mapping[str, Sequence[Difference]], actual: Body) -> list[str]:
        """Lines for people: what differs, by member of what is desired, from what is there."""
        return [
            f"{f'{member}.{path}' if path else member}: {shortened(was)} -> {shortened(wanted)}"
            for member, differences in several.items()
            for path, was, wanted in differences
        ]

    def unchangeable(self) -> LakemeshError:
        return Conflict(
            f"{self.name} is there and differs in what cannot be changed; remove it, or declare it as it is."
        )


def differences(desired: Any, actual: Any, path: str = "") -> Iterator[Difference]:
    """Where `actual` is not what `desired` says. What only `actual` has are the workspace's defaults."""
    if isinstance(desired, Mapping) and isinstance(actual, Mapping):
        for key, value in desired.items():
            yield from differences(value, actual.get(key), f"{path}.{key}" if path else str(key))
    elif (
        (named := by_name(desired)) is not None and (found := by_name(actual)) is not None and len(named) == len(found)
    ):
        yield from differences(named, found, path)
    elif isinstance(desired, list) and isinstance(actual, list) and len(desired) == len(actual):
        for place, (value, item) in enumerate(zip(desired, actual, strict=True)):
            yield from differences(value, item, f"{path}[{place}]")
    elif desired != actual and not (desired in ({}, [], None) and actual in ({}, [], None)):
        yield path, actual, desired


def by_name(items: Any) -> dict[str, Any] | None:
    """Items of a list by their names, as the workspace may list them in another order; None when they have none."""
    for member in NAMING_MEMBERS:
        if isinstance(items, list) and items and all(isinstance(item, Mapping) and member in item for item in items):
            return {str(item[member]): item for item in items}
    return None


def shortened(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def absolute(path: str) -> str:
    """`/Workspace` may be left out of a path; here it never is."""
    return path if path.startswith("/Workspace/") else f"/Workspace{path}"
