"""Vector search: endpoints and their indexes."""

import json
from typing import Any, ClassVar

from lakemesh.deploy.resources.base import Body, Resource

API = "/api/2.0/vector-search"
READY_SECONDS = 1_800.0


class SearchEndpoint(Resource):
    holds_data: ClassVar[bool] = True

    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key in ("name", "endpoint_type")}

    @property
    def path(self) -> str:
        return f"{API}/endpoints/{self.name}"

    def read(self) -> Body | None:
        return self.target.find(self.path)

    def create(self) -> None:
        self.target.do("POST", f"{API}/endpoints", self.desired)

    def delete(self) -> None:
        self.target.do("DELETE", self.path)

    def settle(self) -> None:
        def state() -> str | None:
            found: str = self.target.do("GET", self.path).get("endpoint_status", {}).get("state", "PROVISIONING")
            return None if found == "ONLINE" else found

        self.target.wait(f"search endpoint {self.name}", state, timeout_seconds=READY_SECONDS)

    def identifier(self) -> str:
        return str(self.target.do("GET", self.path).get("id"))


class SearchIndex(Resource):
    holds_data: ClassVar[bool] = True

    @property
    def desired(self) -> Body:
        return comparable({key: value for key, value in self.body.items() if key not in ("grants", "lifecycle")})

    @property
    def path(self) -> str:
        return f"{API}/indexes/{self.name}"

    def read(self) -> Body | None:
        found = self.target.find(self.path)
        return None if found is None else comparable(found)

    def create(self) -> None:
        sent = {key: value for key, value in self.body.items() if key not in ("grants", "lifecycle")}
        self.target.do("POST", f"{API}/indexes", sent)

    def delete(self) -> None:
        self.target.do("DELETE", self.path)

    def settle(self) -> None:
        def state() -> str | None:
            status = self.target.do("GET", self.path).get("status", {})
            return None if status.get("ready") else str(status.get("detailed_state", "PROVISIONING"))

        self.target.wait(f"index {self.name}", state, timeout_seconds=READY_SECONDS)


def comparable(body: Body) -> dict[str, Any]:
    """The schema as what it says instead of as text, its types by the names they are given back with; and without the
    columns that a Delta Sync index takes, which are not given back."""
    from lakemesh.lakehouse.databricks.index_specs import spark_type

    found = dict(body)
    if synced := found.get("delta_sync_index_spec"):
        found["delta_sync_index_spec"] = {key: value for key, value in synced.items() if key != "columns_to_sync"}
    spec = found.get("direct_access_index_spec")
    if spec and isinstance(spec.get("schema_json"), str):
        schema = {name: spark_type(kind) for name, kind in json.loads(spec["schema_json"]).items()}
        found["direct_access_index_spec"] = {**spec, "schema_json": schema}
    return found
