"""One deployment at a time: a lock file in the workspace, which its holder keeps alive.

It is `state/deploy.lock` under the bundle's root, created without overwriting, which the workspace does for one caller
only. Place and members are those of the Databricks CLI (libs/locker), so that each waits for the other; members of our
own say where the holder runs and for how long its silence is to be believed.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from lakemesh.deadline import Deadline
from lakemesh.deploy import workspace_files
from lakemesh.deploy.resources.base import Target, absolute
from lakemesh.errors import Conflict, LakemeshError

LEASE_SECONDS = 60.0
POLL_SECONDS = 1.0
CONFIRM_SECONDS = 1.0


class Lease:
    """A context manager: held inside, given back at its end. A holder that is gone (its process on this machine has
    ended, or it has renewed nothing for `lease_seconds`) is taken over from."""

    def __init__(
        self, target: Target, *, command: str, wait_seconds: float, force: bool = False, seconds: float = LEASE_SECONDS
    ) -> None:
        self._target = target
        self._path = lock_path(target)
        self._id = str(uuid.uuid4())
        self._command = command
        self._wait_seconds = wait_seconds
        self._force = force
        self._seconds = seconds
        self._over = threading.Event()
        self._lost = ""
        self._renewer = threading.Thread(target=self._renew_forever, daemon=True)

    def __enter__(self) -> "Lease":
        self._acquire()
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._renewer.join()
        try:
            if (self._read() or {}).get("ID") == self._id:
                workspace_files.delete(self._target, self._path)
        except LakemeshError as problem:
            self._target.say(f"the lock stays for {self._seconds:.0f} s: {problem.detail}")

    def check(self) -> None:
        """Raises `Conflict` when another run has taken over."""
        if self._lost:
            raise Conflict(self._lost)

    def _acquire(self) -> None:
        deadline, seen, since = Deadline.after(self._wait_seconds), None, time.monotonic()
        waiting = False
        while not self._create():
            found = self._read()
            if found is None:
                continue
            if found.get("ID") == self._id:  # the answer to our own request was lost, and the request repeated
                return
            if found != seen:
                seen, since = found, time.monotonic()
            if self._force or is_abandoned(found, silent_seconds=time.monotonic() - since):
                if self._take_over(found):
                    return
                continue
            if deadline.remaining_seconds() <= POLL_SECONDS:
                advice = "wait for it, or take over with --force-lock when you know that it has ended"
                raise Conflict(f"{self._target.bundle.target} is being changed by {holder(found)}; {advice}.")
            if not waiting:
                self._target.say(f"waiting for {holder(found)} ...")
                waiting = True
            time.sleep(POLL_SECONDS)

    def _create(self) -> bool:
        try:
            workspace_files.write_file(self._target, self._path, self._content(), overwrite=False)
        except Conflict:
            return False
        return True

    def _take_over(self, former: Mapping[str, Any]) -> bool:
        """Of several that take over at once, the last to write is the one who holds it."""
        if self._read() != former:
            return False
        self._target.say(f"taking over from {holder(former)}")
        workspace_files.write_file(self._target, self._path, self._content())
        time.sleep(CONFIRM_SECONDS)
        return (self._read() or {}).get("ID") == self._id

    def _renew_forever(self) -> None:
        while not self._over.wait(self._seconds / 3):
            try:
                found = self._read()
                if found is None or found.get("ID") != self._id:
                    self._lost = f"Another run has taken over: {holder(found or {})}. This one stops."
                    return
                workspace_files.write_file(self._target, self._path, self._content())
            except LakemeshError as error:
                self._target.say(f"the lock could not be renewed: {error.detail}")

    def _read(self) -> dict[str, Any] | None:
        return workspace_files.read_json(self._target, self._path)

    def _content(self) -> bytes:
        now = datetime.now(UTC).isoformat()
        shared = {"ID": self._id, "AcquisitionTime": now, "IsForced": self._force, "User": self._target.user}
        ours = {"Command": self._command, "Host": host(), "Process": os.getpid(), "LeaseSeconds": self._seconds}
        return json.dumps({**shared, **ours}).encode()


def lock_path(target: Target) -> str:
    return f"{absolute(target.bundle.root_path)}/state/deploy.lock"


def current_holder(target: Target) -> str | None:
    """Who changes the target just now, in words."""
    found = workspace_files.read_json(target, lock_path(target))
    return None if found is None or is_abandoned(found, silent_seconds=0.0) else holder(found)


def holder(found: Mapping[str, Any]) -> str:
    moment = str(found.get("AcquisitionTime", "an unknown time"))[:19]
    command = found.get("Command", "databricks bundle")
    return f"{found.get('User', 'somebody')} ({command}, {moment} UTC)"


def is_abandoned(found: Mapping[str, Any], *, silent_seconds: float) -> bool:
    """A lock of the Databricks CLI is never renewed and says not where it was made: it is not taken for abandoned."""
    if "LeaseSeconds" not in found:
        return False
    if found.get("Host") == host() and not is_alive(int(found.get("Process") or 0)):
        return True
    return silent_seconds >= float(found["LeaseSeconds"])


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def host() -> str:
    """The machine, as told apart from others: containers of one image share no process ids."""
    return f"{socket.gethostname()}-{uuid.getnode():x}"
