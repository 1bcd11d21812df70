"""Jobs: found by tags, so that nobody else's are touched."""

from typing import Any

from lakemesh.deploy.resources.base import Body, Resource

API = "/api/2.2/jobs"
TAG = "lakemesh_bundle"
KEY_TAG = "lakemesh_key"


class Job(Resource):
    """Files of its tasks lie in the uploaded source of the app; a new source makes the job point there."""

    @property
    def desired(self) -> Body:
        settings = {key: value for key, value in self.body.items() if key not in ("permissions", "lifecycle")}
        settings["tags"] = {**settings.get("tags", {}), TAG: self.owner, KEY_TAG: self.address.removeprefix("jobs.")}
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
        """By name; else, which takes all pages of jobs and so happens only before one is made, by the bundle's key: a
        job with a new name is the same job. Those of versions of lakemesh that wrote no key are known by their names
        alone; a single one whose name is declared no longer is the one renamed."""
        named = self._ours({"name": self.name})
        if named:
            return named[0]
        ours = self._ours({})
        keyed = [job for job in ours if job["settings"]["tags"].get(KEY_TAG) == self.desired["tags"][KEY_TAG]]
        declared = self._declared_names()
        renamed = [
            job
            for job in ours
            if KEY_TAG not in job["settings"]["tags"] and job["settings"].get("name") not in declared
        ]
        return keyed[0] if keyed else renamed[0] if len(renamed) == 1 else None

    def _ours(self, query: Body) -> list[dict[str, Any]]:
        known = self.target.pages(f"{API}/list", "jobs", {**query, "expand_tasks": "true"})
        return [job for job in known if job["settings"].get("tags", {}).get(TAG) == self.owner]

    def _declared_names(self) -> list[str]:
        return [str(self.target.fill(body.get("name"))) for _, body in self.target.bundle.each("jobs")]


def in_source(value: Any, folder: str) -> Any:
    """Paths inside the bundle (`./...`) as paths inside the uploaded source."""
    if isinstance(value, dict):
        return {key: in_source(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [in_source(item, folder) for item in value]
    return f"{folder}/{value[2:]}" if isinstance(value, str) and value.startswith("./") else value
