"""Start what is about to be deployed, here and before anything is uploaded: on an embedded workspace of its own.

A process of its own imports the app's agents, so that nothing of them stays in this one; its faults come back as lines.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lakemesh.config.loader import ConfigFile, placeholders
from lakemesh.errors import ConfigurationInvalid, DeadlineExceeded, LakemeshError

SECONDS = 120.0
FAULTY = 3
HIDDEN = ("LAKEMESH_", "DATABRICKS_", "BUNDLE_VAR_")


class Rehearsal:
    """Begun when it is made, so that it runs beside what the workspace is asked; `finish` waits for its end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="lakemesh-rehearsal-")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        places = {"LAKEMESH_CONFIG_FOLDER": str(folder.resolve() / "config"), "LAKEMESH_HOME": self._home.name}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lakemesh.deploy.rehearsal"],
            cwd=folder,
            env={**kept, **secrets_in(folder / "config"), **environment, **places, "LAKEMESH_WORKSPACE": "embedded"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> None:
        """Raises `ConfigurationInvalid` with every fault, or `DeadlineExceeded`."""
        try:
            said, errors = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            problem = f"The app did not start here within {SECONDS:.0f} s; --no-rehearsal skips this."
            raise DeadlineExceeded(problem) from None
        finally:
            self.abandon()
        if self._process.returncode:
            faults = said.splitlines() if self._process.returncode == FAULTY else errors.splitlines()[-1:]
            raise ConfigurationInvalid(faults or ["the app does not start here; --no-rehearsal skips this"])

    def abandon(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        self._home.cleanup()


def secrets_in(folder: Path) -> dict[str, str]:
    """Stand-ins for the secrets the configuration refers to: the real ones are not for this machine."""
    return placeholders([ConfigFile(file.name, file.read_bytes()) for file in folder.glob("*.yaml")])


async def start() -> None:
    from lakemesh.composition.services import open_services
    from lakemesh.config.settings import Settings

    async with open_services(Settings()):
        pass


def main() -> int:
    sys.path.insert(0, "")  # agents are found in the app's folder, as the server finds them
    try:
        asyncio.run(start())
    except ConfigurationInvalid as error:
        sys.stdout.write("\n".join(error.errors))
        return FAULTY
    except LakemeshError as error:
        sys.stdout.write(f"{error.title}: {error.detail}")
        return FAULTY
    return 0


if __name__ == "__main__":
    sys.exit(main())
