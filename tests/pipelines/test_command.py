"""`lakemesh pipeline`, as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lakemesh.errors import Conflict, InvalidRequest
from lakemesh.pipelines.definition import write_definition
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.folder import write_files
from tests.pipelines.sales import SALES, sales

REQUEST = (
    "orders and customers from CSV files every hour, drop rows without id, latest customer by update time,"
    " daily revenue by country"
)


def lakemesh(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lakemesh.cli", "pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_from_a_sentence_to_files_and_a_change_of_them(tmp_path: Path) -> None:
    made = lakemesh("build", REQUEST, "--out", tmp_path / "p")
    assert made.returncode == 0, made.stderr
    assert "assumed: " in made.stderr
    assert lakemesh("gate", *(tmp_path / "p" / "transformations").glob("*.py")).returncode == 0
    assert lakemesh("check", tmp_path / "p").returncode == 0
    again = lakemesh("build", REQUEST, "--out", tmp_path / "p")
    assert "nothing changes" in again.stdout

    smaller = REQUEST.replace(", daily revenue by country", "")
    refused = lakemesh("build", smaller, "--out", tmp_path / "p")
    assert refused.returncode == 1
    assert "! daily_revenue_by_country is dropped, with its rows." in refused.stdout
    assert (tmp_path / "p/transformations/gold.py").exists()
    assert lakemesh("build", smaller, "--out", tmp_path / "p", "--approve").returncode == 0
    assert not (tmp_path / "p/transformations/gold.py").exists()


def test_a_definition_with_faults_is_not_built(tmp_path: Path) -> None:
    file = tmp_path / "sales.yaml"
    datasets = [{**SALES["datasets"][1], "input": "customer_file"}]
    file.write_text(write_definition(sales(datasets=datasets)))
    checked = lakemesh("check", file)
    assert checked.returncode == 1
    assert "did you mean 'customer_files'" in checked.stdout
    assert lakemesh("build", file, "--out", tmp_path / "out").returncode == 1
    assert not (tmp_path / "out").exists()


def test_hostile_code_is_refused_by_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "evil.py"
    file.write_text("from pyspark import pipelines as dp\nimport os\n")
    judged = lakemesh("gate", file)
    assert judged.returncode == 1
    assert f"{file}:2: " in judged.stdout


def test_a_file_changed_by_hand_is_not_written_over(tmp_path: Path) -> None:
    files = build(sales())
    write_files(tmp_path, files, definition=sales())
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(Conflict, match="README"):
        write_files(tmp_path, build(sales(description="other")), definition=sales())
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_manifest_does_not_reach_outside(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    inside = tmp_path / "p"
    inside.mkdir()
    manifest = {"files": {"../victim": "x", "/etc/hostname": "y"}}
    (inside / ".lakemesh-pipeline.json").write_text(json.dumps(manifest))
    write_files(inside, {}, definition=sales())
    assert (tmp_path / "victim").exists()
    with pytest.raises(InvalidRequest):
        write_files(inside, {"../victim2": "x"}, definition=sales())


def test_the_bundle_holds_what_the_sdk_takes() -> None:
    from databricks.sdk.service.jobs import TriggerSettings
    from databricks.sdk.service.pipelines import PipelineSpec

    made = yaml.safe_load(build(sales())["resources/sales.pipeline.yml"])["resources"]
    settings = made["pipelines"]["sales"]
    assert set(PipelineSpec.from_dict(settings).as_dict()) | {"root_path"} >= set(settings)
    assert TriggerSettings.from_dict(made["jobs"]["sales"]["trigger"]).as_dict() == made["jobs"]["sales"]["trigger"]


def test_the_readme_shows_the_lineage_and_hides_nothing_in_prose() -> None:
    text = build(sales(description="[x](http://evil) <script>"))["README.md"]
    assert "d_orders --> d_daily_revenue" in text
    assert "<script>" not in text.replace("\\<", "")
