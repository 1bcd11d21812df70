"""Code is what the definition says: it passes the linter and the gate, and its graph is the definition's."""

import keyword
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakemesh.errors import ValidationFailed
from lakemesh.pipelines.check import check
from lakemesh.pipelines.definition import PipelineDefinition, parse_definition
from lakemesh.pipelines.gate import judge
from lakemesh.pipelines.graph import graph_of
from lakemesh.pipelines.record import record
from lakemesh.pipelines.render import render
from tests.pipelines.sales import SALES, sales

EXAMPLES = int(os.environ.get("LAKEMESH_PIPELINE_EXAMPLES", "40"))


def test_the_code_says_what_the_definition_says() -> None:
    files = render(sales())
    assert list(files) == ["transformations/bronze.py", "transformations/silver.py", "transformations/gold.py"]
    assert [refusal for code in files.values() for refusal in judge(code)] == []
    assert record(files) == graph_of(sales())


def test_the_same_definition_gives_the_same_bytes() -> None:
    script = (
        "import sys; from tests.pipelines.sales import sales; from lakemesh.pipelines.render import render;"
        "sys.stdout.write(''.join(render(sales()).values()))"
    )
    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert made.stdout == "".join(render(sales()).values())


def test_a_definition_with_faults_is_not_rendered() -> None:
    with pytest.raises(ValidationFailed, match="datasets"):
        render(sales(datasets=[]))


def test_comments_cannot_leave_their_quotes() -> None:
    hostile = '"""\n@__import__("os").system\n\\'
    datasets = [{**SALES["datasets"][1], "comment": hostile}]
    files = render(sales(datasets=datasets))
    assert not judge(files["transformations/bronze.py"])
    assert len(record(files).nodes) == 1


def test_ruff_finds_nothing(tmp_path: Path) -> None:
    for path, code in render(sales()).items():
        (tmp_path / Path(path).name).write_text(code)
    require_clean(tmp_path)


def require_clean(folder: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    assert ruff, "ruff is a development dependency"
    found = subprocess.run(
        [ruff, "check", "--isolated", "--no-cache", "--config", 'builtins=["spark"]', folder],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout


IDENTIFIERS = st.one_of(
    st.sampled_from(
        [name for name in keyword.kwlist if name.islower()] + ["dp", "spark", "order", "date", "select", "user"]
    ),
    st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
TYPES = st.sampled_from(
    ["BIGINT", "STRING", "DECIMAL(18,2)", "TIMESTAMP", "DOUBLE", "ARRAY<STRING>", "MAP<STRING, INT>"]
)


@st.composite
def definitions(draw: st.DrawFn) -> PipelineDefinition:
    names = draw(st.lists(IDENTIFIERS, min_size=11, max_size=16, unique_by=str.lower))
    columns = [{"name": name, "type": draw(TYPES), "pii": draw(st.booleans())} for name in names[9:]]
    columns[1]["type"] = draw(st.sampled_from(["BIGINT", "STRING", "DECIMAL(18,2)", "TIMESTAMP", "DOUBLE"]))
    first, second = names[9], names[10]
    comment = " ".join(character for character in draw(TEXT) if character.isprintable())
    kafka = draw(st.booleans())
    place = {"brokers": "b:9092", "topic": "t"} if kafka else {"path": "/Volumes/a/b/c/d"}
    source = {
        "name": names[0],
        "format": "kafka" if kafka else draw(st.sampled_from(["csv", "json"])),
        "columns": columns,
        **place,
    }
    literal = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'\\"), max_size=10))
    actions = st.sampled_from(["warn", "drop", "fail", "quarantine"])
    rules = [
        {"name": "r_one", "condition": f"`{first}` IS NOT NULL", "action": draw(actions)},
        {"name": "r_two", "condition": f"`{second}` <> '{literal}' OR `{first}` = 1", "action": draw(actions)},
    ]
    plain = [{"name": column["name"]} for column in columns]
    listed = [{"name": column["name"], "pii": draw(st.sampled_from(["keep", "hash", "mask"]))} for column in columns]
    other = {"name": names[5], "format": "parquet", "path": "/Volumes/a/b/c/e", "columns": columns}
    snapshots = {"name": names[6], "format": "csv", "path": "/Volumes/a/b/c/f", "columns": columns, "streaming": False,
                 "snapshots": True}  # fmt: skip
    grouped = [{"name": first, "expression": f"`{names[2]}`.`{first}`"},
               {"name": "n_rows", "expression": "count(*)"}]  # fmt: skip
    joins = [{"dataset": names[3], "on": f"`{names[2]}`.`{first}` = `{names[3]}`.`{first}`",
              "how": draw(st.sampled_from(["inner", "left"]))}]  # fmt: skip
    datasets: list[dict[str, Any]] = [
        {"name": names[1], "layer": "bronze", "kind": "streaming_table", "input": names[0], "comment": comment,
         "columns": plain, "append": draw(st.sampled_from([[], [names[5]]]))},
        {"name": names[2], "layer": "silver", "kind": "streaming_table", "input": names[1], "columns": listed,
         "rules": draw(st.sampled_from([[], rules])), "deduplicate": draw(st.booleans()), "keys": [first],
         "where": draw(st.sampled_from([None, f"`{first}` > 3"])), "cluster_by": [second]},
        {"name": names[3], "layer": "silver", "kind": "streaming_table", "input": names[2],
         "change_data": {"keys": [first], "sequence_by": second, "scd_type": draw(st.sampled_from([1, 2]))}},
        {"name": names[4], "layer": "gold", "kind": "materialized_view", "input": names[2], "group_by": [first],
         "joins": draw(st.sampled_from([[], joins])),
         "columns": [{**column, "pii": "keep"} for column in grouped]},
        {"name": names[7], "layer": "bronze", "kind": "materialized_view", "input": names[6]},
        {"name": names[8], "layer": "bronze", "kind": "streaming_table", "input": names[7],
         "change_data": {"keys": [first], "from_snapshots": True, "scd_type": draw(st.sampled_from([1, 2]))}},
        {"name": "a_view", "layer": "silver", "kind": "temporary_view", "input": names[1], "columns": listed},
    ]  # fmt: skip
    sinks = [{"name": "a_sink", "input": names[2], "brokers": "b:9092", "topic": "t", "key": first}]
    given = {"name": "p", "sources": [source, other, snapshots], "datasets": datasets}
    return parse_definition({**given, "sinks": draw(st.sampled_from([[], sinks]))})


def test_random_definitions_render_to_code_of_the_same_graph(tmp_path: Path) -> None:
    rendered = 0

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(definitions())
    def render_one(definition: PipelineDefinition) -> None:
        nonlocal rendered
        if any(fault.level == "error" for fault in check(definition)):
            return
        rendered += 1
        files = render(definition)
        for path, code in files.items():
            compile(code, path, "exec")
            assert judge(code) == []
            (tmp_path / f"{rendered}_{Path(path).name}").write_text(code)
        assert record(files) == graph_of(definition)

    render_one()
    assert rendered >= EXAMPLES / 2
    require_clean(tmp_path)
