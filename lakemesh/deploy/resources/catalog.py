"""Unity Catalog: catalogs, schemas, volumes, tables, and what is granted on them."""

from typing import Any, ClassVar

from lakemesh.deploy.resources.base import Body, Resource, Target
from lakemesh.errors import ConfigurationInvalid, InvalidRequest

API = "/api/2.1/unity-catalog"
STATEMENT_SECONDS = 300.0
CHANGEABLE = ("comment", "properties")


class Securable(Resource):
    """A catalog, schema or volume; its grants are a resource of their own."""

    holds_data: ClassVar[bool] = True
    kind = ""
    force_delete = False

    @property
    def name(self) -> str:
        return full_name(self.body)

    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key not in ("grants", "lifecycle", "storage_root")}

    @property
    def path(self) -> str:
        return f"{API}/{self.kind}s/{self.name}"

    def read(self) -> Body | None:
        return self.target.find(self.path)

    def create(self) -> None:
        root = {"storage_root": self.body["storage_root"]} if self.body.get("storage_root") else {}
        self.target.do("POST", f"{API}/{self.kind}s", {**self.desired, **root})

    def refusal(self, wanted: Body, actual: Body) -> str | None:
        return self.unchangeable().detail if set(wanted) - set(CHANGEABLE) else None

    def update(self, wanted: Body) -> None:
        self.target.do("PATCH", self.path, wanted)

    def delete(self) -> None:
        self.target.do("DELETE", self.path, query={"force": str(self.force_delete).lower()})


class Catalog(Securable):
    """Stays when anything of others is in it. `storage_root` is where its managed tables lie, which has to be said
    where the metastore has no storage of its own."""

    kind = "catalog"

    def create(self) -> None:
        try:
            super().create()
        except InvalidRequest as error:
            advice = "give --var storage_root=URL of an external location, or --var catalog=NAME of one that exists"
            raise InvalidRequest(f"The catalog {self.name} cannot be made: {error.detail} {advice}.") from None

    def delete(self) -> None:
        try:
            super().delete()
        except InvalidRequest as error:
            self.target.say(f"the catalog {self.name} stays: {error.detail}")


class Schema(Securable):
    """Removed with whatever the app made in it."""

    kind = "schema"
    force_delete = True


class Volume(Securable):
    kind = "volume"


class Grants(Resource):
    """What a securable's `grants` say. Privileges are added, and removed with the resource; what others granted
    stays."""

    def __init__(self, kind: str, address: str, declared: Body, target: Target) -> None:
        super().__init__(f"{address}.grants", declared, target)
        self._kind = kind

    @property
    def name(self) -> str:
        return f"grants on {full_name(self.body)}"

    @property
    def path(self) -> str:
        return f"{API}/permissions/{self._kind}/{full_name(self.body)}"

    @property
    def desired(self) -> Body:
        granted = {grant["principal"]: grant["privileges"] for grant in self.body["grants"]}
        return {principal: dict.fromkeys(sorted(privileges), True) for principal, privileges in granted.items()}

    def read(self) -> Body | None:
        found = self.target.find(self.path) or {}
        held = {
            item["principal"]: dict.fromkeys(item.get("privileges") or (), True)
            for item in found.get("privilege_assignments") or ()
            if item["principal"] in self.desired
        }
        return held or None

    def create(self) -> None:
        self.update(self.desired)

    def update(self, wanted: Body) -> None:
        """Of the declared privileges, those in `wanted` are held afterwards, and no others."""
        desired, changes = self.desired, []
        for who, privileges in wanted.items():
            held = set(privileges or ())
            changes.append({"principal": who, "add": sorted(held), "remove": sorted(set(desired[who]) - held)})
        self.target.do("PATCH", self.path, {"changes": changes})

    def delete(self) -> None:
        self.update(dict.fromkeys(self.desired))


def full_name(body: Body) -> str:
    return ".".join(filter(None, (body.get("catalog_name"), body.get("schema_name"), body["name"])))


def run_statement(target: Target, statement: str) -> list[list[Any]]:
    """The rows of one statement on the bundle's warehouse. Raises what the statement failed with."""
    from lakemesh.lakehouse.databricks.translation import statement_error

    path = "/api/2.0/sql/statements"
    sent = {"statement": statement, "warehouse_id": warehouse_id(target), "wait_timeout": "30s"}
    answer = target.do("POST", path, sent)

    def state() -> str | None:
        nonlocal answer
        if answer["status"]["state"] not in ("PENDING", "RUNNING"):
            return None
        answer = target.do("GET", f"{path}/{answer['statement_id']}")
        found: str = answer["status"]["state"]
        return found if found in ("PENDING", "RUNNING") else None

    target.wait("SQL warehouse", state, timeout_seconds=STATEMENT_SECONDS)
    if answer["status"]["state"] != "SUCCEEDED":
        error = answer["status"].get("error") or {}
        raise statement_error(error.get("error_code"), error.get("message") or answer["status"]["state"])
    rows: list[list[Any]] = (answer.get("result") or {}).get("data_array") or []
    return rows


def warehouse_id(target: Target) -> str:
    """The warehouse among the app's resources."""
    for resource in target.bundle.app.get("resources") or ():
        if "sql_warehouse" in resource:
            return str(resource["sql_warehouse"]["id"])
    raise ConfigurationInvalid(["resources.apps: the app needs a resource of the kind sql_warehouse"])
