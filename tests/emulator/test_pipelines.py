"""Pipelines through the SDK: made, changed, run, followed; and what the platform refuses. Spark itself is stood in for
(tests/spark has the real one)."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lakemesh.deadline import Deadline
from lakemesh.errors import Conflict, InvalidRequest, NotFound
from lakemesh.lakehouse import databricks
from lakemesh.lakehouse.pipelines import PipelineSettings
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.pipelines.definition import PipelineDefinition
from lakemesh.pipelines.deploy import Deployment, Target, deploy, deploy_mending, put_files
from lakemesh.pipelines.documents import build
from lakemesh.pipelines.requests import definition_of
from lakemesh.pipelines.versions import Provenance
from tests.emulator.conftest import ACCOUNTS
from tests.emulator.served import Emulator, serve
from tests.pipelines.spark_stand_in import environment

pytestmark = pytest.mark.anyio

ORDERS = "orders from CSV files, drop rows without id, daily revenue by country"
TARGET = Target(folder="/Workspace/Users/agent/pipelines")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("pipelines")
    with serve(folder / "home", accounts=ACCOUNTS, spark=environment(folder / "spark")) as served:
        yield served


@pytest.fixture
async def workspace(emulator: Emulator) -> AsyncIterator[Workspace]:
    opened = await databricks.open_workspace(emulator.settings())
    yield opened
    await opened.close()


def named(name: str, request: str = ORDERS) -> PipelineDefinition:
    return definition_of(request, schema=name).model_copy(update={"name": name})


async def deployed(
    workspace: Workspace, definition: PipelineDefinition, run: str, **changes
) -> tuple[Deployment, list]:
    told: list[str] = []
    files = {**build(definition), **changes.pop("files", {})}
    done = await deploy(
        definition, files, workspace=workspace, target=TARGET, tell=told.append, deadline=Deadline.after(60),
        provenance=Provenance(run=run, definition=definition.digest), **changes,
    )  # fmt: skip
    return done, told


async def test_a_pipeline_is_deployed_followed_and_changed_in_place(workspace: Workspace) -> None:
    first, told = await deployed(workspace, named("shop"), "one")
    assert first.succeeded
    assert told[:4] == ["files", "pipeline", "validate", told[3]]
    assert any("orders has COMPLETED" in line for line in told)
    assert {(found["dataset"], found["name"]) for found in first.expectations} == {("orders", "id_present")}
    rows = await workspace.warehouse.query("SELECT count(*) AS n FROM main.shop.daily_revenue_by_country")
    assert rows.rows == [(2,)]

    grown = named("shop", ORDERS + ", weekly revenue by country")
    second, _ = await deployed(workspace, grown, "two", full_refresh=True)
    assert second.pipeline_id == first.pipeline_id
    assert second.update.full_refresh
    found = await workspace.pipelines.find("shop")
    assert found.settings.configuration["lakemesh.definition"] == grown.digest
    assert found.settings.serverless
    assert found.settings.development


async def test_a_run_that_is_begun_again_starts_nothing_twice(workspace: Workspace) -> None:
    definition = named("twice")
    first, _ = await deployed(workspace, definition, "one")
    again, told = await deployed(workspace, definition, "one")
    assert again.update.update_id == first.update.update_id
    assert "validate" not in told
    pipeline = await workspace.pipelines.find("twice")
    assert len(pipeline.updates) == 2  # the validation and the update
    other, _ = await deployed(workspace, definition, "two")
    assert other.update.update_id != first.update.update_id


async def test_a_failure_is_explained_by_its_class_and_mended(workspace: Workspace) -> None:
    definition = named("broken")
    gold = build(definition)["transformations/gold.py"].replace("FROM orders", "FROM nowhere")
    failed, _ = await deployed(workspace, definition, "one", files={"transformations/gold.py": gold})
    assert not failed.succeeded
    assert failed.update.validate_only
    assert failed.explanation.error_class == "TABLE_OR_VIEW_NOT_FOUND"
    assert "exists as input" in failed.explanation.proposal

    asked = []

    async def mend(before: PipelineDefinition, explanation) -> PipelineDefinition:
        asked.append(explanation.error_class)
        return named("broken", ORDERS + ", weekly revenue by country")

    def built(of: PipelineDefinition) -> dict[str, str]:
        files = build(of)
        return files if "weekly" in of.description else {**files, "transformations/gold.py": gold}

    mended, done = await deploy_mending(
        definition.model_copy(update={"tags": {"round": "1"}}), built, mend, rounds=2, workspace=workspace,
        target=TARGET, tell=lambda line: None, deadline=Deadline.after(60),
        provenance=Provenance(run="m", definition=""),
    )  # fmt: skip
    assert done.succeeded
    assert asked == ["TABLE_OR_VIEW_NOT_FOUND"]
    assert mended.description.endswith("weekly revenue by country")


async def test_code_that_the_gate_refuses_is_not_run(workspace: Workspace) -> None:
    definition = named("hostile")
    failed, _ = await deployed(workspace, definition, "one", files={"transformations/extra.py": "import os\n"})
    assert failed.explanation.error_class == "LAKEMESH_GATE.REFUSED"


async def test_somebody_elses_pipeline_is_left_alone(workspace: Workspace) -> None:
    await workspace.pipelines.create(settings("theirs", configuration={}))
    with pytest.raises(Conflict, match="not made by lakemesh"):
        await deployed(workspace, named("theirs"), "one")


def settings(name: str, **changes) -> PipelineSettings:
    given = PipelineSettings(
        name=name, catalog="main", schema="s", root_path="/Workspace/x", include=("/Workspace/x/**",)
    )
    return replace(given, **changes)


async def test_the_platform_refuses(workspace: Workspace, emulator: Emulator) -> None:
    pipelines = workspace.pipelines
    made = await pipelines.create(settings("once"))
    with pytest.raises(Conflict):
        await pipelines.create(settings("once"))
    found = await pipelines.get(made)
    await pipelines.edit(made, settings("once", continuous=True), last_modified_ms=found.last_modified_ms)
    with pytest.raises(Conflict, match="modified after"):
        await pipelines.edit(made, settings("once"), last_modified_ms=found.last_modified_ms - 1)
    with pytest.raises(InvalidRequest, match="absolute"):
        await pipelines.create(settings("relative", include=("x/**",)))
    with pytest.raises(NotFound):
        await pipelines.get("nothing")
    with pytest.raises(NotFound):
        await pipelines.update(made, "nothing")
    for body in ({"name": "a"}, {"name": "a", "libraries": [{"glob": {"include": "/x"}}], "target": "a", "schema": "b"},
                 {"name": "a", "libraries": [{"glob": {"include": "/x"}}], "clustres": []}):  # fmt: skip
        assert emulator.call("POST", "/api/2.0/pipelines", body).status_code == 400


async def test_a_second_update_waits_for_the_first(workspace: Workspace) -> None:
    pipelines, files = workspace.pipelines, workspace.files
    await put_files(
        files, "/Workspace/busy", {"transformations/a.py": build(named("busy"))["transformations/bronze.py"]}
    )
    made = await pipelines.create(
        settings("busy", root_path="/Workspace/busy", include=("/Workspace/busy/transformations/**",))
    )
    await pipelines.start(made)
    with pytest.raises(Conflict, match="active update"):
        await pipelines.start(made)
    await pipelines.stop(made)


async def test_workspace_files_are_written_listed_and_deleted(workspace: Workspace) -> None:
    files = workspace.files
    await files.write("/Workspace/Users/me/deep/er/a.txt", b"1")
    await files.write("/Workspace/Users/me/deep/er/a.txt", b"2")
    assert await files.list_files("/Workspace/Users/me/deep") == ["/Workspace/Users/me/deep/er/a.txt"]
    assert await files.read("/Workspace/Users/me/deep/er/a.txt") == b"2"
    await files.delete("/Workspace/Users/me/deep")
    await files.delete("/Workspace/Users/me/deep")
    assert await files.list_files("/Workspace/Users/me/deep") == []
    with pytest.raises(NotFound):
        await files.read("/Workspace/Users/me/deep/er/a.txt")


async def test_a_git_folder_holds_a_branch(workspace: Workspace, tmp_path: Path) -> None:
    from tests.pipelines.test_versions import repository, versioned

    source = repository(tmp_path / "repo")
    version = versioned(source, named("shop"), "one")
    folders = workspace.git_folders
    address = f"file://{tmp_path / 'repo'}"
    at = "/Workspace/Users/me/agent-shop"
    commit = await folders.check_out(at, url=address, provider="gitHub", branch=version.branch)
    assert commit == version.commit
    assert await workspace.files.read(f"{at}/pipelines/shop/definition.yaml")
    assert await folders.check_out(at, url=address, provider="gitHub", branch="main") == source.commit_of("main")
    with pytest.raises(Conflict):
        await folders.check_out(at, url="file:///other", provider="gitHub", branch="main")
