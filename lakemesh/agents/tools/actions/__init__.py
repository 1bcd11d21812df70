"""Tools that change something: jobs, files of the workspace, pipelines, SQL in sandboxes and what is promoted.

Each is idempotent by a token of the run that it is a part of, is waited for a while, and is cancelled with that run.
"""
