"""A workspace over HTTP: the embedded build behind the REST API that the Databricks SDKs speak.

For development without a workspace, and for the tests of the Databricks build. `docs/emulator.md` lists what is
emulated and what is not.
"""

from lakemesh.emulator.app import create_emulator

__all__ = ["create_emulator"]
