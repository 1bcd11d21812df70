"""Dashboards and alerts: found by their names in the deployment's own folder, so that nobody else's are touched."""

import json
from typing import Any

from lakemesh.deploy.resources.base import Body, Resource, absolute
from lakemesh.errors import ConfigurationInvalid, NotFound

DATASET_DEFAULTS = ("dataset_catalog", "dataset_schema")


class Filed(Resource):
    """Something with a display name, in the deployment's folder."""

    collection = ""
    items = ""
    id_member = ""

    @property
    def folder(self) -> str:
        return f"{absolute(self.target.bundle.root_path)}/{self.items}"

    @property
    def path(self) -> str:
        """Raises `NotFound`."""
        found = self.find()
        if found is None:
            raise NotFound(f"There is no {self.name!r} in {self.folder}.")
        return f"{self.collection}/{found[self.id_member]}"

    def find(self) -> dict[str, Any] | None:
        """The whole of it: lists do not say where things lie."""
        for item in self.target.pages(self.collection, self.items):
            if item.get("display_name") == self.name:
                found: dict[str, Any] = self.target.do("GET", f"{self.collection}/{item[self.id_member]}")
                if absolute(str(found.get("parent_path"))) == self.folder:
                    return found
        return None

    def make_folder(self) -> None:
        self.target.do("POST", "/api/2.0/workspace/mkdirs", {"path": self.folder})

    def delete(self) -> None:
        self.target.do("DELETE", self.path)


class Dashboard(Filed):
    """Made as a draft, and published after each change."""

    collection = "/api/2.0/lakeview/dashboards"
    items = "dashboards"
    id_member = "dashboard_id"

    @property
    def desired(self) -> Body:
        defaults = {name.removeprefix("dataset_"): value for name, value in self._defaults().items()}
        content = self._content()
        return {
            "display_name": self.name,
            "warehouse_id": self.body["warehouse_id"],
            "content": {
                "datasets": [{**dataset, **defaults} for dataset in content["datasets"]],
                "pages": content["pages"],
            },
        }

    def read(self) -> Body | None:
        found = self.find()
        if found is None:
            return None
        return {**found, "content": json.loads(found.get("serialized_dashboard") or "{}")}

    def create(self) -> None:
        self.make_folder()
        self.target.do("POST", self.collection, self._sent() | {"parent_path": self.folder}, query=self._defaults())
        self._publish()

    def update(self, wanted: Body) -> None:
        self.target.do("PATCH", self.path, self._sent(), query=self._defaults())
        self._publish()

    def _content(self) -> dict[str, Any]:
        file = self.target.bundle.folder / self.body["file_path"]
        try:
            content: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationInvalid([f"{self.body['file_path']}: {error}"]) from None
        return content

    def _sent(self) -> dict[str, Any]:
        content = json.dumps(self._content())
        warehouse_id = self.body["warehouse_id"]
        return {"display_name": self.name, "warehouse_id": warehouse_id, "serialized_dashboard": content}

    def _defaults(self) -> dict[str, str]:
        return {name: self.body[name] for name in DATASET_DEFAULTS if name in self.body}

    def _publish(self) -> None:
        embedded = bool(self.body.get("embed_credentials"))
        sent = {"embed_credentials": embedded, "warehouse_id": self.body["warehouse_id"]}
        self.target.do("POST", f"{self.path}/published", sent)


class Alert(Filed):
    collection = "/api/2.0/alerts"
    items = "alerts"
    id_member = "id"

    @property
    def desired(self) -> Body:
        return {key: value for key, value in self.body.items() if key not in ("permissions", "lifecycle")}

    def read(self) -> Body | None:
        return self.find()

    def create(self) -> None:
        self.make_folder()
        self.target.do("POST", self.collection, {**self.desired, "parent_path": self.folder})

    def update(self, wanted: Body) -> None:
        mask = {"update_mask": ",".join(wanted)}
        self.target.do("PATCH", self.path, {**self.desired, **wanted}, query=mask)
