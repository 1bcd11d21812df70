"""Access lists: who may use an app, a job, an endpoint; who may read a secret scope."""

from collections.abc import Callable
from typing import Any, ClassVar

from lakemesh.deploy.resources.base import Body, Resource, Target
from lakemesh.errors import NotFound

PRINCIPALS = ("user_name", "group_name", "service_principal_name")


def principal_of(entry: Body) -> tuple[str, str]:
    return next((kind, str(entry[kind])) for kind in PRINCIPALS if kind in entry)


class Permissions(Resource):
    """The `permissions` of a resource with an id of its own. Entries are added and changed; other people's stay."""

    def __init__(self, kind: str, address: str, declared: Body, find_id: Callable[[], str], target: Target) -> None:
        super().__init__(f"{address}.permissions", declared, target)
        self._kind = kind
        self._find_id = find_id

    @property
    def name(self) -> str:
        return f"permissions on {super().name}"

    @property
    def path(self) -> str:
        return f"/api/2.0/permissions/{self._kind}/{self._find_id()}"

    @property
    def desired(self) -> Body:
        return {principal_of(entry)[1]: entry["level"] for entry in self.body["permissions"]}

    def read(self) -> Body | None:
        try:
            found = self.target.do("GET", self.path)
        except NotFound:
            return None  # what it is about is not there, or has no list
        levels = {
            principal_of(entry)[1]: entry["all_permissions"][0]["permission_level"]
            for entry in found.get("access_control_list") or ()
        }
        return {who: level for who, level in levels.items() if who in self.desired} or None

    def create(self) -> None:
        self.update(self.desired)

    def update(self, wanted: Body) -> None:
        kinds = {who: kind for kind, who in map(principal_of, self.body["permissions"])}
        entries = [{kinds[who]: who, "permission_level": level} for who, level in wanted.items() if level]
        self.target.do("PATCH", self.path, {"access_control_list": entries})

    def delete(self) -> None:
        """It goes with what it is about."""


class SecretScope(Resource):
    holds_data: ClassVar[bool] = True

    @property
    def desired(self) -> Body:
        return {"name": self.body["name"]}

    def read(self) -> Body | None:
        scopes = self.target.do("GET", "/api/2.0/secrets/scopes/list").get("scopes") or ()
        return next(({"name": scope["name"]} for scope in scopes if scope["name"] == self.name), None)

    def create(self) -> None:
        self.target.do("POST", "/api/2.0/secrets/scopes/create", {"scope": self.name})

    def delete(self) -> None:
        self.target.do("POST", "/api/2.0/secrets/scopes/delete", {"scope": self.name})


class SecretAcls(Resource):
    """Who may read a scope, from its `permissions`."""

    def __init__(self, address: str, declared: Body, target: Target) -> None:
        super().__init__(f"{address}.permissions", declared, target)

    @property
    def name(self) -> str:
        return f"permissions on {super().name}"

    @property
    def desired(self) -> Body:
        return {principal_of(entry)[1]: entry["level"] for entry in self.body["permissions"]}

    def read(self) -> Body | None:
        try:
            items: list[dict[str, Any]] = self.target.do(
                "GET", "/api/2.0/secrets/acls/list", query={"scope": self.body["name"]}
            ).get("items", [])
        except NotFound:
            return None
        return {item["principal"]: item["permission"] for item in items if item["principal"] in self.desired} or None

    def create(self) -> None:
        self.update(self.desired)

    def update(self, wanted: Body) -> None:
        for principal, level in wanted.items():
            verb, more = ("put", {"permission": level}) if level else ("delete", {})
            sent = {"scope": self.body["name"], "principal": principal, **more}
            self.target.do("POST", f"/api/2.0/secrets/acls/{verb}", sent)

    def delete(self) -> None:
        self.update(dict.fromkeys(self.desired))
