"""How a bundle is read, and how what it says is compared with what is there."""

from pathlib import Path
from typing import Any

import pytest

from lakemesh.deploy.bundle import Bundle, load_bundle
from lakemesh.deploy.resources.base import differences
from lakemesh.errors import ConfigurationInvalid

MAIN = """
bundle: {name: shop}
variables:
  schema: {default: agents}
  limit: {default: 5}
  place: {default: "main.${var.schema}"}
  warehouse: {description: has no default}
include: [resources/*.yml]
targets:
  dev: {default: true, variables: {schema: agents_dev}}
  prod: {resources: {jobs: {nightly: {max_concurrent_runs: 2}}}, workspace: {root_path: /Workspace/Shared/shop}}
"""
JOBS = """
resources:
  jobs:
    nightly:
      name: "${bundle.name} of ${workspace.current_user.userName}"
      max_concurrent_runs: ${var.limit}
      tasks: [{task_key: one, sql_task: {file: {path: ../sql/one.sql}, parameters: {schema: "${var.place}"}}}]
"""


def read(folder: Path, target: str | None = None, main: str = MAIN, **variables: str) -> Bundle:
    (folder / "resources").mkdir(exist_ok=True)
    (folder / "databricks.yml").write_text(main)
    (folder / "resources/jobs.yml").write_text(JOBS)
    return load_bundle(folder, target, variables={"warehouse": "w", **variables}, user="ann@example.com")


def job(bundle: Bundle) -> dict[str, Any]:
    return dict(bundle.resources["jobs"]["nightly"])


def test_variables_targets_and_paths(tmp_path: Path) -> None:
    bundle = read(tmp_path)
    assert bundle.target == "dev"
    assert bundle.root_path == "/Workspace/Users/ann@example.com/.bundle/shop/dev"
    assert job(bundle)["name"] == "shop of ann@example.com"
    assert job(bundle)["max_concurrent_runs"] == 5
    task = job(bundle)["tasks"][0]["sql_task"]
    assert task == {"file": {"path": "./sql/one.sql"}, "parameters": {"schema": "main.agents_dev"}}
    assert job(read(tmp_path, limit="7"))["max_concurrent_runs"] == "7"


def test_a_target_may_change_resources(tmp_path: Path) -> None:
    bundle = read(tmp_path, "prod")
    assert job(bundle)["max_concurrent_runs"] == 2
    assert job(bundle)["name"].startswith("shop")
    assert bundle.root_path == "/Workspace/Shared/shop"


@pytest.mark.parametrize(
    ("main", "fault"),
    [
        (MAIN.replace("description: has no default", "description: none") + "\n", "--var nothing"),
        (MAIN.replace("{name: shop}", "{name: '${var.colour}'}"), "nothing"),
        (MAIN.replace("dev: {", "dev: {mode: development, "), "rename resources"),
        (MAIN.replace("dev: {", "dev: {presets: {name_prefix: x}, "), "rename resources"),
        ("- a list", "must be a mapping"),
        ("bundle: {name: [}", "while parsing"),
        (MAIN.replace("schema: {default: agents}", "other: {default: agents}"), "${var.schema} is not known"),
    ],
)
def test_faults_are_named(tmp_path: Path, main: str, fault: str) -> None:
    given = {"nothing": "x"} if "nothing" in fault else {}
    with pytest.raises(ConfigurationInvalid) as refused:
        read(tmp_path, main=main, **given)
    assert fault in str(refused.value)


def test_a_variable_without_value_says_how_to_give_it(tmp_path: Path) -> None:
    read(tmp_path)
    with pytest.raises(ConfigurationInvalid, match="--var warehouse=VALUE or set BUNDLE_VAR_warehouse"):
        load_bundle(tmp_path, "dev", variables={}, user="ann")


@pytest.mark.parametrize(
    ("desired", "actual", "found"),
    [
        ({"a": 1}, {"a": 1, "server": "default"}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 2, 1)]),
        ({"a": 1}, {}, [("a", None, 1)]),
        ({"a": []}, {}, []),
        ([{"name": "x", "v": 1}, {"name": "y"}], [{"name": "y", "z": 0}, {"name": "x", "v": 1}], []),
        ([{"name": "x", "v": 1}], [{"name": "x", "v": 2}], [("x.v", 2, 1)]),
        ([1, 2], [1], [("", [1], [1, 2])]),
        ([{"a": 1}], [{"a": 2}], [("[0].a", 2, 1)]),
    ],
)
def test_only_what_is_declared_is_compared(desired: Any, actual: Any, found: list[Any]) -> None:
    assert list(differences(desired, actual)) == found
