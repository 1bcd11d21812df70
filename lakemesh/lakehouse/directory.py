"""Who belongs to which groups of the workspace."""

from typing import Protocol


class Directory(Protocol):
    async def own_groups(self) -> frozenset[str]:
        """Groups of the one whose credentials this workspace is used with. Raises what its build raises."""
        ...

    async def groups_of(self, user: str) -> frozenset[str]:
        """Groups of a user, by user name, or of a service principal, by application id; none for who is not known.
        Raises `PermissionDenied` when the application may not read them, or `WorkspaceUnavailable`."""
        ...
