from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lakemesh.config.loader import ConfigFile, merge, parse_config
from lakemesh.config.store import ConfigStore
from lakemesh.errors import ConfigurationInvalid, NotFound, WorkspaceUnavailable

pytestmark = pytest.mark.anyio

BASE = """
agents:
  echo: {class: "lakemesh.agents.echo:EchoAgent"}
models:
  endpoints: {offline: {serving_endpoint: offline}}
  routes: {quality: {endpoints: [offline]}}
limits: {max_concurrency: 10, max_queue: 5}
"""


def parse(*texts: str, **variables: str):
    names = ("lakemesh.yaml", "lakemesh.dev.yaml")
    return parse_config([ConfigFile(name, text.encode()) for name, text in zip(names, texts, strict=False)], variables)


def faults(*texts: str, **variables: str) -> list[str]:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse(*texts, **variables)
    return caught.value.errors


def test_environment_is_merged_over_the_base() -> None:
    config = parse(BASE, "limits: {max_queue: 9}\nagents: {echo: {timeout_seconds: 3.0}}")
    assert (config.limits.max_concurrency, config.limits.max_queue) == (10, 9)
    assert config.agents["echo"].timeout_seconds == 3.0


def test_null_in_the_environment_removes_the_key() -> None:
    assert parse(BASE, "limits: {max_queue: null}").limits.max_queue == 256


def test_variables_are_filled_in() -> None:
    text = (
        BASE
        + "telemetry: {service_name: 'mesh-${NAME}-${OTHER:-x}-$$', batch_size: '${SIZE}', enabled: '${ON:-false}'}"
    )
    config = parse(text, NAME="a", SIZE="50")
    assert config.telemetry.service_name == "mesh-a-x-$"
    assert (config.telemetry.batch_size, config.telemetry.enabled) == (50, False)


def test_every_fault_is_named_by_file_and_key() -> None:
    found = faults(
        BASE + "memory: {tabel: x}\ntelemetry: {batch_size: many}", "limits: {max_concurrency: 0}\nsurprise: 1"
    )
    assert len(found) == 4
    assert any(fault.startswith("lakemesh.yaml: memory.tabel: ") for fault in found)
    assert any(fault.startswith("lakemesh.yaml: telemetry.batch_size: ") for fault in found)
    assert any(fault.startswith("lakemesh.dev.yaml: limits.max_concurrency: ") for fault in found)
    assert any(fault.startswith("lakemesh.dev.yaml: surprise: ") for fault in found)


def test_missing_variables_are_named_and_values_never_shown() -> None:
    assert faults(BASE + "memory: {table: '${NOT_THERE}'}") == [
        "lakemesh.yaml: memory.table: the environment variable NOT_THERE is not set"
    ]
    text = BASE + "auth: {tokens: [{user: u, sha256: '${SECRET}'}]}"
    assert not any("hunter2" in fault for fault in faults(text, SECRET="hunter2"))


@pytest.mark.parametrize(
    "text",
    ["a: [", "- a\n- b", "a: 1\na: 2", "a: &x [1]\nb: *x", "!!python/object:os.system {}",
        "\x00", "? [1]: 2", "a: " + "[" * 5_000],
)  # fmt: skip
def test_bad_yaml_is_one_fault_with_its_file(text: str) -> None:
    found = faults(text)
    assert found[0].startswith("lakemesh.yaml: ")


def test_route_to_nowhere_is_a_fault() -> None:
    assert "nowhere" in faults(BASE.replace("[offline]", "[nowhere]"))[0]


@pytest.mark.parametrize("name", ["a b", "a:b", "a__b", "../a", "ä", ".a", "a" * 65, "a/b", "a\nb"])
def test_names_that_would_mean_something_else_are_faults(name: str) -> None:
    assert (
        "names are" in faults(yaml.safe_dump(yaml.safe_load(BASE) | {"agents": {name: {"function": "json:loads"}}}))[0]
    )


@pytest.mark.parametrize("name", ["a:b", "a__b", "a.b", "", "a/b"])
def test_servers_elsewhere_have_plain_names(name: str) -> None:
    url = "https://elsewhere.example"
    for section in ({"mcp": {"servers": {name: {"url": url}}}}, {"a2a": {"peers": {name: {"url": url}}}}):
        assert "names are" in faults(yaml.safe_dump(yaml.safe_load(BASE) | section))[0]


def test_a_peer_and_an_mcp_server_are_not_called_the_same() -> None:
    servers = "{far: {url: 'https://elsewhere.example'}}"
    found = faults(f"{BASE}mcp: {{servers: {servers}}}\na2a: {{peers: {servers}}}\n")
    assert "names of their own" in found[0]


MAPPINGS = st.recursive(
    st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
).filter(lambda value: isinstance(value, Mapping))


@given(MAPPINGS, MAPPINGS)
def test_merge_keeps_what_is_said_last(base: dict, over: dict) -> None:
    merged = merge(base, over)
    assert set(merged) == set(base) | set(over)
    assert merge(merged, over) == merged
    assert merge({}, base) == base == merge(base, {})


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_designed_error(text: str) -> None:
    try:
        parse(text)
    except ConfigurationInvalid as error:
        pytest.fail("no fault is named") if not error.errors else None


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=4))
def test_any_strings_can_be_interpolated(values: dict[str, str]) -> None:
    try:
        parse(yaml.safe_dump(values), NAME="x")
    except ConfigurationInvalid as error:
        pytest.fail("no fault is named") if not error.errors else None


class Files(dict):
    """A volume in memory; `away` makes every read fail."""

    away = False

    async def read(self, path: str) -> bytes:
        if self.away:
            raise WorkspaceUnavailable("the volume is away")
        if path not in self:
            raise NotFound(path)
        return self[path].encode()


PATH = "/Volumes/main/agents/configs/lakemesh.yaml"


async def make(files: Files) -> ConfigStore:
    store = ConfigStore(PATH, "dev", read=files.read, variables={})
    await store.load()
    return store


async def test_refresh_takes_a_new_version_and_tells_subscribers() -> None:
    files = Files({PATH: BASE})
    store, seen = await make(files), []
    store.subscribe(lambda config: seen.append(config.limits.max_queue))
    assert not await store.refresh()
    files[PATH.replace(".yaml", ".dev.yaml")] = "limits: {max_queue: 7}"
    assert await store.refresh()
    assert (store.current.limits.max_queue, seen) == (7, [7])


async def test_bad_version_is_refused_while_the_last_good_one_serves() -> None:
    files = Files({PATH: BASE})
    store = await make(files)
    files[PATH] = BASE + "surprise: 1"
    assert not await store.refresh()
    assert store.current.limits.max_queue == 5
    assert "surprise" in store.status()["degraded"][0]
    files[PATH] = BASE + "refresh_seconds: 9.0"
    assert await store.refresh()
    assert store.status()["degraded"] is None


class Part:
    """A part of a server, and what became of its changes."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.committed = self.discarded = 0

    async def prepare(self, config: object) -> "Part":
        if self.failures:
            raise self.failures.pop(0)
        return self

    def commit(self) -> None:
        self.committed += 1

    async def discard(self) -> None:
        self.discarded += 1


async def test_a_version_that_one_part_refuses_is_taken_by_none_and_every_fault_is_named() -> None:
    files = Files({PATH: BASE})
    store, seen = await make(files), []
    first, last = Part(), Part()
    store.subscribe(seen.append)
    for part in (first, Part(ConfigurationInvalid(["agents: no"])), Part(ConfigurationInvalid(["auth: no"])), last):
        store.register(part.prepare)
    files[PATH] = BASE + "refresh_seconds: 9.0"
    assert not await store.refresh()
    assert (store.current.refresh_seconds, seen) == (300.0, [])
    assert [(part.committed, part.discarded) for part in (first, last)] == [(0, 1), (0, 1)]
    assert store.status()["degraded"] == ["agents: no", "auth: no"]


async def test_keys_that_wait_for_a_restart_are_named_until_they_are_back() -> None:
    files = Files({PATH: BASE})
    store = await make(files)
    files[PATH] = BASE + "memory: {table: main.agents.other}\ntelemetry: {capture_content: true}"
    assert await store.refresh()
    assert store.status()["degraded"] == ["needs restart: memory.table"]
    files[PATH] = BASE
    assert await store.refresh()
    assert store.status()["degraded"] is None


async def test_volume_away_is_reported_until_it_is_back() -> None:
    files = Files({PATH: BASE})
    store = await make(files)
    files.away = True
    assert not await store.refresh()
    assert store.status()["degraded"] == ["the volume is away"]
    files.away = False
    assert not await store.refresh()
    assert store.status()["degraded"] is None


async def test_first_load_fails_loudly() -> None:
    with pytest.raises(NotFound):
        await make(Files())
    with pytest.raises(ConfigurationInvalid):
        await make(Files({PATH: "agents: 5"}))


async def test_a_part_that_fails_is_told_and_asked_again() -> None:
    files = Files({PATH: BASE})
    store, part = await make(files), Part(WorkspaceUnavailable("away"), KeyError("a bug"))
    store.register(part.prepare)
    files[PATH] = BASE + "refresh_seconds: 9.0"
    assert not await store.refresh()
    assert store.status()["degraded"] == ["away"]
    assert not await store.refresh()
    assert store.status()["degraded"] == ["taking it failed: KeyError"]
    assert store.current.refresh_seconds == 300.0
    assert await store.refresh()
    assert (store.current.refresh_seconds, store.status()["degraded"]) == (9.0, None)
    assert part.committed == 1


TEXT_IN_A_FILE = BASE + "telemetry: {service_name: '${NAME}'}"


@pytest.mark.parametrize("value", ["2026-13-45", "[" * 5_000, "1" * 5_000, "a: b: c", "\x00", "*x"])
def test_text_that_is_no_scalar_stays_text(value: str) -> None:
    assert parse(TEXT_IN_A_FILE, NAME=value).telemetry.service_name == value


@pytest.mark.parametrize("value", ["on", "98765432"])
def test_scalar_where_text_belongs_is_a_fault_that_hides_it(value: str) -> None:
    (fault,) = faults(TEXT_IN_A_FILE, NAME=value)
    assert fault == "lakemesh.yaml: telemetry.service_name: Input should be a valid string"


def test_variables_that_are_none_are_faults() -> None:
    start = "lakemesh.yaml: memory.table: "
    for value in ("${lower-case}", "${OPEN", "a${}", "${A:+b}"):
        assert faults(BASE + f"memory: {{table: '{value}'}}")[0].startswith(start + "not ${NAME}")
    assert faults(BASE + "memory: {table: '${EMPTY}'}", EMPTY="") == [start + "the environment variable EMPTY is empty"]
    assert parse(BASE + "memory: {table: 'a$b$${c}'}").memory.table == "a$b${c}"
