"""The Repos API 2.0: Git folders, checked out from repositories on this machine (`file://` addresses, and paths)."""

import itertools
from typing import Any

from fastapi import APIRouter, Request

from lakemesh.emulator.errors import ApiError, not_found
from lakemesh.emulator.identity import body_of
from lakemesh.emulator.workspace_files import Tree

PROVIDERS = {
    "gitHub", "gitHubEnterprise", "bitbucketCloud", "bitbucketServer", "azureDevOpsServices", "gitLab",
    "gitLabEnterpriseEdition", "awsCodeCommit",
}  # fmt: skip


def routes(kept: dict[str, dict[str, Any]], tree: Tree) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/repos")
    ids = itertools.count(max(map(int, kept), default=0) + 1)

    def repo_of(repo_id: int) -> dict[str, Any]:
        if str(repo_id) not in kept:
            raise not_found(f"The Git folder {repo_id}")
        return kept[str(repo_id)]

    @router.post("")
    async def create(request: Request) -> dict[str, Any]:
        body = body_of(await request.body())
        if body.get("provider") not in PROVIDERS:
            raise ApiError(400, f"{body.get('provider')!r:.50} is not a provider.")
        path = str(body.get("path") or f"/Repos/{request.state.user}/{str(body['url']).rpartition('/')[2]}")
        if any(repo["path"] == path for repo in kept.values()):
            raise ApiError(400, f"{path} is already there.", error_code="RESOURCE_ALREADY_EXISTS")
        repo_id = next(ids)
        repo = {"id": repo_id, "path": path, "url": str(body["url"]), "provider": body["provider"]}
        kept[str(repo_id)] = repo | check_out(repo, tree, None)
        return kept[str(repo_id)]

    @router.get("")
    async def list_repos(request: Request) -> dict[str, Any]:
        prefix = request.query_params.get("path_prefix") or ""
        return {"repos": [repo for repo in kept.values() if repo["path"].startswith(prefix)]}

    @router.get("/{repo_id}")
    async def get(repo_id: int) -> dict[str, Any]:
        return repo_of(repo_id)

    @router.patch("/{repo_id}")
    async def update(repo_id: int, request: Request) -> dict[str, Any]:
        repo = repo_of(repo_id)
        repo.update(check_out(repo, tree, body_of(await request.body()).get("branch")))
        return {}

    @router.delete("/{repo_id}")
    async def delete(repo_id: int) -> dict[str, Any]:
        tree.delete(repo_of(repo_id)["path"], recursive=True)
        del kept[str(repo_id)]
        return {}

    return router


def check_out(repo: dict[str, Any], tree: Tree, branch: str | None) -> dict[str, Any]:
    """The branch and commit; the folder holds what is in it."""
    from lakemesh.pipelines.repository import LocalRepository

    try:
        source = LocalRepository(repo["url"].removeprefix("file://"))
        name = branch or source.default_branch
        commit, files = source.commit_of(name), source.files_of(name)
    except (KeyError, ValueError, OSError):
        raise ApiError(400, f"{repo['url']!r:.200} has no branch {branch!r:.100} here.") from None
    if tree.local(repo["path"]).exists():
        tree.delete(repo["path"], recursive=True)
    tree.make_folder(repo["path"])
    for path, content in files.items():
        place = f"{repo['path']}/{path}"
        tree.make_folder(place.rpartition("/")[0])
        tree.write(place, content, overwrite=True)
    return {"branch": name, "head_commit_id": commit}
