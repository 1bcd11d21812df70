"""Unity Catalog: catalogs, schemas, volumes, tables, and what is granted on them."""

from collections.abc import Iterable
from typing import Any

from lakemesh.deploy.resources.base import Body, Resource, Target
from lakemesh.errors import ConfigurationInvalid, InvalidRequest
from lakemesh.lakehouse.tables import TableSpec

API = "/api/2.1/unity-catalog"
STATEMENT_SECONDS = 300.0
CHANGEABLE = ("comment", "properties")


class Securable(Resource):
    """A catalog, schema or volume; its grants are a resource of their own."""

    kind = ""
    force_delete = False

    @property
    def name(self) -> str:
        return full_name(self.body)

    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key not in ("grants", "lifecycle")}

    @property
    def path(self) -> str:
        return f"{API}/{self.kind}s/{self.name}"

    def read(self) -> Body | None:
        return self.target.find(self.path)

    def create(self) -> None:
        self.target.do("POST", f"{API}/{self.kind}s", self.desired)

    def update(self, wanted: Body) -> None:
        if set(wanted) - set(CHANGEABLE):
            raise self.unchangeable()
        self.target.do("PATCH", self.path, wanted)

    def delete(self) -> None:
        self.target.do("DELETE", self.path, query={"force": str(self.force_delete).lower()})


class Catalog(Securable):
    """Stays when anything of others is in it."""

    kind = "catalog"

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


class Table(Resource):
    """A Delta table the server writes; who deploys owns it, the app may read and change its rows."""

    def __init__(self, spec: TableSpec, target: Target) -> None:
        super().__init__(f"tables.{spec.name.rpartition('.')[2]}", {"name": spec.name}, target)
        self._spec = spec

    @property
    def desired(self) -> Body:
        return {"columns": columns_of((column.name, column.type) for column in self._spec.columns)}

    def read(self) -> Body | None:
        found = self.target.find(f"{API}/tables/{self.name}")
        if found is None:
            return None
        return {"columns": columns_of((item["name"], item["type_text"]) for item in found.get("columns") or ())}

    def create(self) -> None:
        from lakemesh.lakehouse.databricks.tables import create_statement

        run_statement(self.target, create_statement(self._spec))

    def delete(self) -> None:
        self.target.do("DELETE", f"{API}/tables/{self.name}")


def full_name(body: Body) -> str:
    return ".".join(filter(None, (body.get("catalog_name"), body.get("schema_name"), body["name"])))


def columns_of(columns: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Types by name, in one spelling. Where there is no VARIANT (the emulator), JSON text stands for it."""
    from lakemesh.lakehouse.databricks.cells import type_name

    return {name: type_name(kind).replace(" ", "").upper().replace("VARIANT", "STRING") for name, kind in columns}


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
