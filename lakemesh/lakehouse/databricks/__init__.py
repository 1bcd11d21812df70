"""The Databricks build: every port on the real SDKs. They are imported when the workspace is opened."""

from lakemesh.lakehouse.databricks.workspace import open_workspace

__all__ = ["open_workspace"]
