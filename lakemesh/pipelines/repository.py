"""A Git repository on this machine, without the program `git` and without touching the working tree."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakemesh.errors import Conflict, NotFound

if TYPE_CHECKING:
    from dulwich.objects import Commit


@dataclass(frozen=True, slots=True)
class Author:
    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


class LocalRepository:
    """Branches as folders of files. Raises `NotFound` when there is no repository at `path`."""

    def __init__(self, path: str | Path) -> None:
        from dulwich.errors import NotGitRepository
        from dulwich.repo import Repo

        try:
            self._repo: Any = Repo(str(path))  # its own types ask for names that it makes of bytes itself
        except NotGitRepository:
            raise NotFound(f"There is no Git repository at {path}.") from None

    @property
    def default_branch(self) -> str:
        followed = self._repo.refs.read_ref(b"HEAD") or b""
        return str(followed.removeprefix(b"ref: refs/heads/").decode())

    def commit_of(self, branch: str) -> str:
        """Raises `NotFound`."""
        return str(self._commit(branch).id.decode())

    def message_of(self, branch: str) -> str:
        """Of its newest commit. Raises `NotFound`."""
        return str(self._commit(branch).message.decode())

    def has(self, branch: str) -> bool:
        return ref_of(branch) in self._repo.refs

    def branches(self, prefix: str = "") -> list[str]:
        heads = (name.removeprefix(b"refs/heads/").decode() for name in self._repo.refs.subkeys(b"refs/heads/"))
        return sorted(name for name in heads if name.startswith(prefix))

    def files_of(self, branch: str, folder: str = "") -> dict[str, bytes]:
        """Every file below `folder` by its path there."""
        from dulwich.object_store import iter_tree_contents

        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        store, found = self._repo.object_store, {}
        for entry in iter_tree_contents(store, self._commit(branch).tree):
            path = (entry.path or b"").decode()
            if path.startswith(prefix) and entry.sha is not None:
                found[path.removeprefix(prefix)] = store[entry.sha].as_raw_string()
        return found

    def commit(
        self, branch: str, *, base: str, folder: str, files: Mapping[str, bytes], message: str, author: Author,
        at_seconds: int,
    ) -> str:  # fmt: skip
        """Have `branch` hold `files`, and nothing else, in `folder`, on top of `base`; the commit. A branch that is
        there already must hold just that, and stays. Raises `Conflict` for the default branch, and for a branch that
        holds anything else."""
        from dulwich.objects import Blob, Commit

        if branch == self.default_branch or branch == base:
            raise Conflict(f"{branch} is not written to; a change has a branch of its own.")
        parent = self._commit(base)
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        kept = {path: content for path, content in self.files_of(base).items() if not path.startswith(prefix)}
        blobs = []
        for path, content in {**kept, **{f"{prefix}{path}": content for path, content in files.items()}}.items():
            blobs.append((path.encode(), Blob.from_string(content)))
        tree = self._tree_of(blobs)
        if self.has(branch):
            return self._same(branch, tree, message)
        made = Commit()
        made.tree, made.parents = tree, [parent.id]
        made.author = made.committer = str(author).encode()
        made.author_time = made.commit_time = at_seconds
        made.author_timezone = made.commit_timezone = 0
        made.encoding, made.message = b"UTF-8", message.encode()
        self._repo.object_store.add_objects([*((blob, None) for _, blob in blobs), (made, None)])
        if not self._repo.refs.add_if_new(ref_of(branch), made.id):
            return self._same(branch, tree, message)
        return str(made.id.decode())

    def _same(self, branch: str, tree: Any, message: str) -> str:
        """The branch's commit, which an earlier attempt has made."""
        there = self._commit(branch)
        if there.tree != tree or there.message.decode() != message:
            raise Conflict(f"The branch {branch} holds something else already; start another run.")
        return str(there.id.decode())

    def push(self, branch: str, remote: str) -> None:
        """To the repository at `remote`, where the branch is made or stays as it is."""
        from dulwich import porcelain

        porcelain.push(self._repo, remote, f"refs/heads/{branch}:refs/heads/{branch}")

    def _commit(self, branch: str) -> "Commit":
        from dulwich.objects import Commit

        try:
            found: Any = self._repo[ref_of(branch)]
        except KeyError:
            raise NotFound(f"There is no branch {branch}.") from None
        assert isinstance(found, Commit)
        return found

    def _tree_of(self, blobs: "list[tuple[bytes, Any]]") -> Any:
        from dulwich.index import commit_tree

        store = self._repo.object_store
        for _, blob in blobs:
            store.add_object(blob)
        return commit_tree(store, [(path, blob.id, 0o100644) for path, blob in blobs])


def ref_of(branch: str) -> Any:
    return f"refs/heads/{branch}".encode()
