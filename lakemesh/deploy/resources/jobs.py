"""Jobs: found by their names and a tag, so that nobody else's are touched."""

from typing import Any

from lakemesh.deploy.resources.base import Body, Resource

API = "/api/2.2/jobs"
TAG = "lakemesh_bundle"


class Job(Resource):
    """Files of its tasks lie in the uploaded source of the app; a new source makes the job point there."""

    @property
    def desired(self) -> Body:
        settings = {key: value for key, value in self.body.items() if key not in ("permissions", "lifecycle")}
        settings["tags"] = {**settings.get("tags", {}), TAG: self.owner}
        placed: dict[str, Any] = in_source(settings, str(self.target.facts.get("workspace.file_path", "")))
        return placed

    @property
    def owner(self) -> str:
        return f"{self.target.bundle.name}.{self.target.bundle.target}"

    def read(self) -> Body | None:
        found = self._find()
        return None if found is None else found["settings"]

    def create(self) -> None:
        self.target.do("POST", f"{API}/create", self.desired)

    def update(self, wanted: Body) -> None:
        sent = {"job_id": int(self.identifier()), "new_settings": {**self.desired, **wanted}}
        self.target.do("POST", f"{API}/reset", sent)

    def delete(self) -> None:
        self.target.do("POST", f"{API}/delete", {"job_id": int(self.identifier())})

    def identifier(self) -> str:
        return str((self._find() or {}).get("job_id"))

    def _find(self) -> dict[str, Any] | None:
        known = self.target.pages(f"{API}/list", "jobs", {"name": self.name, "expand_tasks": "true"})
        ours = (job for job in known if job["settings"].get("tags", {}).get(TAG) == self.owner)
        return next((job for job in ours if job["settings"].get("name") == self.name), None)


def in_source(value: Any, folder: str) -> Any:
    """Paths inside the bundle (`./...`) as paths inside the uploaded source."""
    if isinstance(value, dict):
        return {key: in_source(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [in_source(item, folder) for item in value]
    return f"{folder}/{value[2:]}" if isinstance(value, str) and value.startswith("./") else value
