"""Model serving endpoints of the app's own, and what the platform lets the app use of any."""

from typing import Any

from lakemesh.deploy.resources.base import Body, Resource, Target

API = "/api/2.0/serving-endpoints"
READY_SECONDS = 3_600.0
COMPARED = ("name", "config", "ai_gateway")


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
        if "config" in wanted or "name" in wanted:
            self.target.do("PUT", f"{self.path}/config", self.body["config"] | dict(wanted.get("config") or {}))
        if "ai_gateway" in wanted:
            self.target.do("PUT", f"{self.path}/ai-gateway", wanted["ai_gateway"] or {})

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


class GatewayLimits(Resource):
    """What one principal may use of a serving endpoint in a minute, which its AI Gateway enforces. Limits of others
    stay, and so does everything else of the gateway. It takes `CAN_MANAGE` on the endpoint."""

    def __init__(self, address: str, declared: Body, target: Target) -> None:
        super().__init__(address, declared, target)

    @property
    def name(self) -> str:
        return f"rate limits on {self.body['name']}"

    @property
    def path(self) -> str:
        return f"{API}/{self.body['name']}"

    @property
    def desired(self) -> Body:
        return {"rate_limits": self.body["rate_limits"]}

    def read(self) -> Body | None:
        own = [limit for limit in self._gateway().get("rate_limits") or () if self._is_own(limit)]
        return {"rate_limits": own} if own else None

    def create(self) -> None:
        self._write(self.body["rate_limits"])

    def update(self, wanted: Body) -> None:
        self._write(wanted["rate_limits"] or [])

    def delete(self) -> None:
        self._write([])

    def _write(self, limits: list[Body]) -> None:
        """The gateway's configuration is replaced as a whole, so all of it is sent back."""
        gateway = self._gateway()
        others = [limit for limit in gateway.get("rate_limits") or () if not self._is_own(limit)]
        self.target.do("PUT", f"{self.path}/ai-gateway", {**gateway, "rate_limits": [*others, *limits]})

    def _gateway(self) -> dict[str, Any]:
        found = self.target.find(self.path) or {}
        return dict(found.get("ai_gateway") or {})

    def _is_own(self, limit: Body) -> bool:
        return limit.get("principal") in {one["principal"] for one in self.body["rate_limits"]}
