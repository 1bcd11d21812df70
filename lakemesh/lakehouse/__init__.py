"""Everything outside the process, behind one object.

`Workspace` (workspace.py) groups the ports; each port is one small protocol in a module of its own. Builds:
`embedded` (a folder, delta-rs, DuckDB, numpy, an offline model) and `databricks` (the real SDKs). `emulator`
serves the embedded build over the workspace's REST API.
"""
