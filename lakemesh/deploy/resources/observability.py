"""Dashboards and alerts. Both are found by their display names, which have to be unique."""

import json
from typing import Any

from lakemesh.deploy.resources.base import Body, Resource
from lakemesh.errors import ConfigurationInvalid

DASHBOARDS = "/api/2.0/lakeview/dashboards"
ALERTS = "/api/2.0/alerts"
DATASET_DEFAULTS = ("dataset_catalog", "dataset_schema")


class Dashboard(Resource):
    """Made as a draft, and published after each change."""

    @property
    def desired(self) -> Body:
        defaults = {name.removeprefix("dataset_"): self.body[name] for name in DATASET_DEFAULTS if name in self.body}
        content = self._content()
        for dataset in content["datasets"]:
            dataset |= defaults
        return {
            "display_name": self.name,
            "warehouse_id": self.body["warehouse_id"],
            "content": {"datasets": content["datasets"], "pages": content["pages"]},
        }

    def read(self) -> Body | None:
        found = self._find()
        if found is None:
            return None
        whole = self.target.do("GET", f"{DASHBOARDS}/{found['dashboard_id']}")
        return {**whole, "content": json.loads(whole.get("serialized_dashboard") or "{}")}

    def create(self) -> None:
        folder = f"{self.target.bundle.root_path}/dashboards"
        self.target.do("POST", "/api/2.0/workspace/mkdirs", {"path": folder})
        made = self.target.do("POST", DASHBOARDS, self._sent() | {"parent_path": folder}, query=self._defaults())
        self._publish(made["dashboard_id"])

    def update(self, wanted: Body) -> None:
        found = self._find() or {}
        self.target.do("PATCH", f"{DASHBOARDS}/{found['dashboard_id']}", self._sent(), query=self._defaults())
        self._publish(found["dashboard_id"])

    def delete(self) -> None:
        if found := self._find():
            self.target.do("DELETE", f"{DASHBOARDS}/{found['dashboard_id']}")

    def identifier(self) -> str:
        return str((self._find() or {}).get("dashboard_id"))

    def _find(self) -> dict[str, Any] | None:
        known = self.target.pages(DASHBOARDS, "dashboards")
        return next((item for item in known if item.get("display_name") == self.name), None)

    def _content(self) -> dict[str, Any]:
        file = self.target.bundle.folder / self.body["file_path"]
        try:
            content: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationInvalid([f"{self.body['file_path']}: {error}"]) from None
        return content

    def _sent(self) -> dict[str, Any]:
        content = json.dumps(self._content())
        return {
            "display_name": self.name,
            "warehouse_id": self.body["warehouse_id"],
            "serialized_dashboard": content,
        }

    def _defaults(self) -> dict[str, str]:
        return {name: self.body[name] for name in DATASET_DEFAULTS if name in self.body}

    def _publish(self, dashboard_id: str) -> None:
        sent = {
            "embed_credentials": bool(self.body.get("embed_credentials")),
            "warehouse_id": self.body["warehouse_id"],
        }
        self.target.do("POST", f"{DASHBOARDS}/{dashboard_id}/published", sent)


class Alert(Resource):
    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key not in ("permissions", "lifecycle")}

    def read(self) -> Body | None:
        found = self._find()
        return None if found is None else self.target.find(f"{ALERTS}/{found['id']}")

    def create(self) -> None:
        self.target.do("POST", ALERTS, self.desired)

    def update(self, wanted: Body) -> None:
        found = self._find() or {}
        self.target.do(
            "PATCH", f"{ALERTS}/{found['id']}", {**self.desired, **wanted}, query={"update_mask": ",".join(wanted)}
        )

    def delete(self) -> None:
        if found := self._find():
            self.target.do("DELETE", f"{ALERTS}/{found['id']}")

    def _find(self) -> dict[str, Any] | None:
        known = self.target.pages(ALERTS, "alerts")
        return next((item for item in known if item.get("display_name") == self.name), None)
