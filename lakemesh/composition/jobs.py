"""Jobs for a workspace that has none of its own: those that the app's bundle declares, run on this machine."""

import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lakemesh.config.settings import Settings
from lakemesh.lakehouse.embedded.jobs import LocalJobs

LOCAL = "local"
"""What stands for a variable of the bundle that has no default."""


def local_jobs(settings: Settings) -> LocalJobs:
    """Of the folder that the server was started in."""
    return LocalJobs(settings.home.resolve(), partial(jobs_of_bundle, Path.cwd()), source=Path.cwd())


def jobs_of_bundle(folder: Path) -> Mapping[int, Mapping[str, Any]]:
    """The jobs of `databricks.yml`'s default target, by numbers that stay. Raises `ConfigurationInvalid`."""
    from lakemesh.deploy.bundle import FILE, load_bundle, read_tree

    if not (folder / FILE).is_file():
        return {}
    declared: Mapping[str, Any] = read_tree(folder).get("variables") or {}
    missing = {name: LOCAL for name, variable in declared.items() if "default" not in (variable or {})}
    bundle = load_bundle(folder, None, variables=missing, user=LOCAL)
    return {zlib.crc32(key.encode()): settings for key, settings in bundle.each("jobs")}
