"""Model serving endpoints of the app's own."""

from lakemesh.deploy.resources.base import Body, Resource

API = "/api/2.0/serving-endpoints"
READY_SECONDS = 3_600.0
COMPARED = ("name", "config")


class ServingEndpoint(Resource):
    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key in COMPARED}

    @property
    def path(self) -> str:
        return f"{API}/{self.name}"

    def read(self) -> Body | None:
        return self.target.find(self.path)

    def create(self) -> None:
        sent = {key: value for key, value in self.body.items() if key not in ("permissions", "lifecycle")}
        self.target.do("POST", API, sent)

    def update(self, wanted: Body) -> None:
        self.target.do("PUT", f"{self.path}/config", self.body["config"] | dict(wanted.get("config") or {}))

    def delete(self) -> None:
        self.target.do("DELETE", self.path)

    def settle(self) -> None:
        def state() -> str | None:
            found = self.target.do("GET", self.path).get("state", {})
            if found.get("ready") == "READY" and found.get("config_update") in (None, "NOT_UPDATING"):
                return None
            return str(found.get("config_update") or found.get("ready"))

        self.target.wait(f"serving endpoint {self.name}", state, timeout_seconds=READY_SECONDS)

    def identifier(self) -> str:
        return str(self.target.do("GET", self.path).get("id"))
