"""Beside the code: a bundle that the Databricks CLI takes, and a workflow that runs it."""

import yaml

from lakemesh.pipelines.documents import build
from tests.bundle_schema import validator
from tests.pipelines.golden import load_cases
from tests.pipelines.sales import sales


def test_bundles_of_every_definition_keep_the_schema() -> None:
    schema = validator()
    cases = [case for case in load_cases() if "refused" not in case.content]
    for case in cases:
        files = build(case.definition())
        for path in ("databricks.yml", *(path for path in files if path.startswith("resources/"))):
            faults = [
                f"{path}: {error.json_path}: {error.message}"
                for error in schema.iter_errors(yaml.safe_load(files[path]))
            ]
            assert faults == []
    assert len(cases) > 60


def test_the_bundle_has_its_pipeline_its_job_and_three_targets() -> None:
    files = build(sales())
    assert list(yaml.safe_load(files["databricks.yml"])["targets"]) == ["dev", "staging", "prod"]
    resources = yaml.safe_load(files["resources/sales.pipeline.yml"])["resources"]
    assert {"pipelines", "jobs"} <= resources.keys()
    sources = [
        library["glob"]["include"] for pipeline in resources["pipelines"].values() for library in pipeline["libraries"]
    ]
    assert all(source.startswith("../transformations") for source in sources), sources


def test_the_workflow_checks_and_validates() -> None:
    workflow = yaml.safe_load(build(sales())["ci/sales.yml"])
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any("databricks bundle validate" in step for step in steps)
    assert any("pytest" in step for step in steps)
