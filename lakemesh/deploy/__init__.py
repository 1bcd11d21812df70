"""Deployment: what a workspace should hold for an app, and bringing it there.

`bundle.py` reads the app's asset bundle (`databricks.yml`), the one declaration of what there should be; `desired.py`
makes resources of it (`resources/`, one class for each kind of thing); `plan.py` compares them with the workspace,
`apply.py` brings it there and takes back what failed half-way; `verify.py` asks the running app. `scaffold.py` makes a
new app out of `template/`.
"""
