import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import NoOpTracerProvider
from pydantic import ValidationError

from lakemesh.config.prompts import PromptsConfig, PromptSelection
from lakemesh.deadline import Deadline
from lakemesh.errors import ConfigurationInvalid, InvalidRequest, NotFound
from lakemesh.lakehouse.embedded import open_workspace
from lakemesh.lakehouse.volumes import VolumeEntry, Volumes
from lakemesh.lakehouse.workspace import Workspace
from lakemesh.prompts import PromptStore
from lakemesh.prompts.templates import parse_file_name
from lakemesh.prompts.versions import split_version
from lakemesh.schemas import Identity
from lakemesh.scope import ExecutionScope, execution_scope

pytestmark = pytest.mark.anyio

VOLUME = "/Volumes/main/agents/prompts"


async def make(workspace: Workspace, files: dict[str, str], **selections: PromptSelection) -> PromptStore:
    for name, text in files.items():
        await workspace.volumes.write(f"{VOLUME}/{name}", text.encode(), overwrite=True)
    config = PromptsConfig(volume=VOLUME, selections=selections)
    store = PromptStore(config, volumes=workspace.volumes, tracer=NoOpTracerProvider().get_tracer("test"))
    await store.refresh()
    return store


async def test_versions_are_numbers(workspace: Workspace) -> None:
    files = {f"greet_v{n}.txt": f"version {n}" for n in (1, 2, 9, 10)}
    store = await make(workspace, files)
    assert store.list_versions() == {"greet": [1, 2, 9, 10]}
    rendered = store.render("greet", {})
    assert (rendered.text, rendered.version, rendered.label) == ("version 10", 10, "latest")


async def test_front_matter_and_variables(workspace: Workspace) -> None:
    text = "---\nroute: fast\ntemperature: 0.3\n---\nHello {{ name }}!"
    store = await make(workspace, {"greet_v1.jinja": text})
    rendered = store.render("greet", {"name": "Ann"})
    assert (rendered.text, rendered.route, rendered.temperature) == ("Hello Ann!", "fast", 0.3)
    assert store.get("greet").variables == {"name"}


@pytest.mark.parametrize(
    ("selection", "version", "label"),
    [
        (PromptSelection(version=1), 1, "pinned"),
        (PromptSelection(aliases={"champion": 2}, alias="champion"), 2, "champion"),
        (PromptSelection(split={1: 0.0, 2: 1.0}, version=3), 2, "split"),
    ],
)
async def test_selection(workspace: Workspace, selection: PromptSelection, version: int, label: str) -> None:
    store = await make(workspace, {f"greet_v{n}.txt": str(n) for n in (1, 2, 3)}, greet=selection)
    rendered = store.render("greet", {}, session_id="s")
    assert (rendered.version, rendered.label) == (version, label)


async def test_rollback_is_a_change_of_configuration(workspace: Workspace) -> None:
    store = await make(workspace, {"greet_v1.txt": "one", "greet_v2.txt": "two"})
    assert store.render("greet", {}).text == "two"
    (await store.prepare(PromptsConfig(volume=VOLUME, selections={"greet": PromptSelection(version=1)}))).commit()
    assert store.render("greet", {}).text == "one"


async def test_use_is_noted_on_the_execution(workspace: Workspace) -> None:
    store = await make(workspace, {"greet_v1.txt": "hi"})
    scope = ExecutionScope(execution_id="x", agent_name="a", identity=Identity(user="u"), deadline=Deadline.after(9))
    token = execution_scope.set(scope)
    store.render("greet", {})
    execution_scope.reset(token)
    assert [(use.name, use.version, use.label) for use in scope.prompt_uses] == [("greet", 1, "latest")]


async def test_refresh_takes_the_new_and_keeps_the_last_good(workspace: Workspace) -> None:
    store = await make(workspace, {"greet_v1.txt": "good", "other_v1.txt": "other"})
    await workspace.volumes.write(f"{VOLUME}/greet_v1.txt", b"now {{ broken", overwrite=True)
    await workspace.volumes.write(f"{VOLUME}/greet_v2.txt", b"---\nunknown_key: 1\n---\nx")
    await workspace.volumes.write(f"{VOLUME}/other_v2.txt", b"new")
    assert await store.refresh()
    assert store.render("greet", {}).text == "good"
    assert store.render("other", {}).text == "new"
    assert set(store.health()["degraded"]) == {"greet_v1.txt", "greet_v2.txt"}
    await workspace.volumes.write(f"{VOLUME}/greet_v1.txt", b"mended", overwrite=True)
    await workspace.volumes.delete(f"{VOLUME}/greet_v2.txt")
    assert await store.refresh()
    assert store.render("greet", {}).text == "mended"
    assert store.health()["degraded"] is None
    assert not await store.refresh()


@pytest.mark.parametrize("name", ["nobody", "../greet", "/etc/passwd", "greet_v1", "", "a" * 500, "greet\0"])
async def test_unknown_and_hostile_names_are_not_found(workspace: Workspace, name: str) -> None:
    store = await make(workspace, {"greet_v1.txt": "x"})
    with pytest.raises(NotFound):
        store.render(name, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ missing }}", "{{ ''.__class__.__mro__ }}", "{{ x.__init__.__globals__ }}", "{% include '/etc/passwd' %}",
        "{% for i in range(10**9) %}x{% endfor %}", "{{ 'x' * 10**9 }}", "{{ 9**9**9 }}", "{{ x.append(1) }}",
        "{% for i in range(90000) %}{% for j in range(90000) %}xxxxxxxxxx{% endfor %}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{% import 'os' as os %}", "{{ 1 / 0 }}",
    ],
)  # fmt: skip
async def test_hostile_templates_are_refused(workspace: Workspace, template: str) -> None:
    store = await make(workspace, {"evil_v1.jinja": template})
    with pytest.raises((InvalidRequest, NotFound)):
        store.render("evil", {"x": [1]})


async def test_missing_volume_is_no_prompts(workspace: Workspace) -> None:
    store = await make(workspace, {})
    assert store.list_versions() == {}


async def test_prompts_outlive_their_volume(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "greet_v1.txt").write_text("hello")
    workspace = await open_workspace(tmp_path / "home", mounts={VOLUME: folder})
    store = await make(workspace, {})
    folder.rename(tmp_path / "away")
    assert not await store.refresh()
    assert store.render("greet", {}).text == "hello"
    assert "volume" in store.health()["degraded"]
    (tmp_path / "away").rename(folder)
    await store.refresh()
    assert store.health()["degraded"] is None
    await workspace.close()


async def test_a_version_given_twice_is_told(workspace: Workspace) -> None:
    store = await make(workspace, {"greet_v1.txt": "text", "greet_v1.jinja": "jinja"})
    assert store.render("greet", {}).text == "jinja"
    assert set(store.health()["degraded"]) == {"greet_v1.txt"}
    await workspace.volumes.delete(f"{VOLUME}/greet_v1.jinja")
    await store.refresh()
    assert store.render("greet", {}).text == "text"
    assert store.health()["degraded"] is None


async def test_a_broken_file_of_a_version_does_not_take_away_the_good_one(workspace: Workspace) -> None:
    store = await make(workspace, {"greet_v1.txt": "good"})
    for content in (b"now {{ broken", b"", b"\xff\xfe"):
        await workspace.volumes.write(f"{VOLUME}/greet_v1.jinja", content, overwrite=True)
        await store.refresh()
        assert store.render("greet", {}).text == "good"
        assert set(store.health()["degraded"]) == {"greet_v1.jinja"}
    await workspace.volumes.write(f"{VOLUME}/greet_v1.jinja", b"better", overwrite=True)
    await store.refresh()
    assert store.render("greet", {}).text == "better"


async def test_a_selected_version_serves_on_when_its_file_is_gone(workspace: Workspace) -> None:
    files = {"greet_v1.txt": "one", "greet_v2.txt": "two", "other_v1.txt": "x"}
    store = await make(workspace, files, greet=PromptSelection(version=1))
    for name in ("greet_v1.txt", "other_v1.txt"):
        await workspace.volumes.delete(f"{VOLUME}/{name}")
    await store.refresh()
    assert store.render("greet", {}).text == "one"
    assert store.list_versions() == {"greet": [1, 2]}
    assert "gone" in store.health()["degraded"]["greet_v1"]


@pytest.mark.parametrize(
    ("selections", "fault"),
    [
        ({"gret": PromptSelection(version=1)}, "did you mean 'greet'"),
        ({"greet": PromptSelection(version=7)}, "there is no version 7; there are 1, 2"),
        ({"greet": PromptSelection(split={1: 1.0, 3: 1.0})}, "there is no version 3"),
        ({"greet": PromptSelection(alias="champion", aliases={"champion": 5})}, "there is no version 5"),
    ],
)
async def test_a_selection_of_what_is_not_there_is_refused(workspace: Workspace, selections: dict, fault: str) -> None:
    store = await make(workspace, {"greet_v1.txt": "one", "greet_v2.txt": "two"})
    with pytest.raises(ConfigurationInvalid, match=fault):
        await store.prepare(PromptsConfig(volume=VOLUME, selections=selections))
    assert store.render("greet", {}).text == "two"
    store = await make(workspace, {}, **selections)
    with pytest.raises(ConfigurationInvalid, match=fault):
        await store.start()


async def test_a_change_that_size_and_time_do_not_tell_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    file = folder / "greet_v1.txt"
    file.write_text("one")
    workspace = await open_workspace(tmp_path / "home", mounts={VOLUME: folder})
    store = await make(workspace, {})
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    await store.refresh()
    assert store.render("greet", {}).text == "two"
    await workspace.close()


async def test_a_file_that_is_being_written_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    file = folder / "greet_v1.txt"
    file.write_text("whole")
    workspace = await open_workspace(tmp_path / "home", mounts={VOLUME: folder})
    store = await make(workspace, {})

    class Growing:
        """Volumes in which another piece is written after each reading."""

        list_directory = staticmethod(workspace.volumes.list_directory)

        async def read(self, path: str) -> bytes:
            content = await workspace.volumes.read(path)
            with file.open("a") as more:
                more.write(" and more")
            return content

    file.write_text("half")
    store._library._volumes = Growing()
    await store.refresh()
    assert store.render("greet", {}).text == "whole"
    store._library._volumes = workspace.volumes
    await store.refresh()
    assert store.render("greet", {}).text == "half and more and more"
    await workspace.close()


async def test_files_that_are_too_large_are_told(workspace: Workspace) -> None:
    store = await make(workspace, {"greet_v1.txt": "x" * 300_000, "other_v1.txt": "fine"})
    assert store.list_versions() == {"other": [1]}
    assert set(store.health()["degraded"]) == {"greet_v1.txt"}


async def test_without_a_session_an_experiment_spreads_over_executions(workspace: Workspace) -> None:
    split = PromptSelection(split={1: 1.0, 2: 1.0})
    store = await make(workspace, {"greet_v1.txt": "1", "greet_v2.txt": "2"}, greet=split)
    texts = set()
    for number in range(50):
        scope = ExecutionScope(
            execution_id=str(number), agent_name="a", identity=Identity(user="u"), deadline=Deadline.after(9)
        )
        token = execution_scope.set(scope)
        texts.add(store.render("greet", {}).text)
        execution_scope.reset(token)
    assert texts == {"1", "2"}


class CountedListings:
    """Volumes that say when they were listed."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._listed = asyncio.Semaphore(0)
        self.read = volumes.read

    async def list_directory(self, path: str) -> list[VolumeEntry]:
        entries = await self._volumes.list_directory(path)
        self._listed.release()
        return entries

    async def listings(self, count: int) -> None:
        """Wait for `count` listings that begin after now."""
        while not self._listed.locked():
            await self._listed.acquire()
        for _ in range(count + 1):
            await self._listed.acquire()


async def test_the_background_refresh_serves_a_new_file(workspace: Workspace) -> None:
    await workspace.volumes.write(f"{VOLUME}/greet_v1.txt", b"one")
    config = PromptsConfig(volume=VOLUME, refresh_seconds=0.01)
    volumes = CountedListings(workspace.volumes)
    store = PromptStore(config, volumes=volumes, tracer=NoOpTracerProvider().get_tracer("test"))
    await store.start()
    await workspace.volumes.write(f"{VOLUME}/greet_v2.txt", b"two")
    async with asyncio.timeout(20):
        # The second listing from now comes after the first one's files were read.
        await volumes.listings(2)
    await store.close()
    assert store.render("greet", {}).text == "two"


@pytest.mark.parametrize(
    "selection",
    [{"alias": "champion"}, {"split": {1: 0.0}}, {"split": {1: -1.0, 2: 2.0}}, {"split": {1: float("nan")}},
     {"version": 0}, {"aliases": {"champion": 0}}],
)  # fmt: skip
def test_a_selection_that_selects_nothing_is_a_fault_of_the_configuration(selection: dict) -> None:
    with pytest.raises(ValidationError):
        PromptSelection.model_validate(selection)


@given(
    st.dictionaries(st.integers(1, 99), st.floats(0, 1e6), min_size=1).filter(lambda split: any(split.values())),
    st.text(max_size=20),
)
def test_no_session_lands_on_an_arm_without_weight(split: dict[int, float], session: str) -> None:
    assert split[split_version("greet", split, session)] > 0


@given(st.text(max_size=40))
def test_sessions_stick_to_their_arm(session: str) -> None:
    split = {1: 0.5, 2: 0.3, 3: 0.2}
    assert len({split_version("greet", split, session) for _ in range(3)}) == 1


def test_split_follows_its_weights() -> None:
    counts = Counter(split_version("greet", {1: 7.0, 2: 2.0, 3: 1.0}, f"session {n}") for n in range(10_000))
    assert counts[1] == pytest.approx(7_000, abs=200)
    assert counts[2] == pytest.approx(2_000, abs=200)


@given(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.integers(1, 10**9 - 1))
def test_file_names_carry_name_and_version(name: str, version: int) -> None:
    assert parse_file_name(f"{name}_v{version}.txt") == (name, version)


@given(st.text(max_size=60))
def test_any_other_file_name_is_no_prompt(text: str) -> None:
    parsed = parse_file_name(text)
    assert parsed is None or f"{parsed[0]}_v{parsed[1]}." in text


async def test_a_large_rendering_is_refused_on_the_loop_and_done_beside_it(workspace: Workspace) -> None:
    rounds = "{% for a in range(30000) %}{{ a }}{{ a }}{{ a|string }}{% endfor %}"
    store = await make(workspace, {"table_v1.jinja": rounds})
    with pytest.raises(InvalidRequest, match=r"0\.05 seconds"):
        store.render("table", {})
    rendering = asyncio.ensure_future(store.render_large("table", {}))
    turns = 0
    while not rendering.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 1
    assert (await rendering).text.endswith("299992999929999")
