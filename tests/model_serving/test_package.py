"""What a model carries and what it asks for, from configuration alone."""

from pathlib import Path

import pytest
import yaml

from lakemesh.config.loader import ConfigFile, parse_config
from lakemesh.config.settings import Settings
from lakemesh.errors import UnknownAgent
from lakemesh.model_serving.package import environment_of, packaged_config, variables_of, write_package
from lakemesh.model_serving.resources import Access, Resource, access_of

CONFIG = """
agents:
  desk: {class: supervisor, options: {agents: [analyst, rate], route: quality}, allowed_groups: [finance]}
  analyst:
    class: analyst
    options:
      domains:
        orders: {description: orders of the shop, space_id: space-orders}
        stock:
          description: what is in stock
          semantic_model:
            tables: {stock: {name: main.shop.stock}}
            metrics: {pieces: {aggregate: sum, column: stock.pieces}}
  mine:
    class: analyst
    on_behalf_of_user: true
    options: {domains: {orders: {description: orders of the shop, space_id: space-mine}}}
  rate: {class: unity_catalog_function, options: {function: main.tools.rate}}
  search: {class: search_memory}
  other: {class: echo}
  wrote: {class: "tests.agents.sample_agents:WriterAgent"}
models:
  endpoints:
    big: {serving_endpoint: chat-large}
    small: {base_url: "http://127.0.0.1:1/v1", model: m, api_key: "${secrets.llm.key}"}
    vectors: {serving_endpoint: gte}
  routes:
    quality: {endpoints: [big, small], rules: [{route: fast, characters_below: 9}]}
    fast: {endpoints: ["${FAST_ENDPOINT:-big}"]}
    embeddings: {endpoints: [vectors]}
auth:
  tokens: [{user: ann, sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]
"""
FILES = [ConfigFile("lakemesh.yaml", CONFIG.encode())]
PARSED = parse_config(FILES, {"secrets.llm.key": "the-key-itself"})
SETTINGS = Settings(DATABRICKS_WAREHOUSE_ID="w-1", lakebase_instance="pg-1", database="lakebase")


def access(agent: str) -> Access:
    return access_of(agent, PARSED, SETTINGS)


def test_an_agent_brings_those_it_asks_and_their_resources() -> None:
    found = access("desk")
    assert set(found.agents) == {"desk", "analyst", "rate"}
    assert set(found.resources) == {
        Resource("serving_endpoint", "chat-large"),
        Resource("serving_endpoint", "gte"),
        Resource("genie_space", "space-orders"),
        Resource("table", "main.shop.stock"),
        Resource("function", "main.tools.rate"),
        Resource("sql_warehouse", "w-1"),
        Resource("lakebase", "pg-1"),
    }
    assert found.scopes == ()


def test_what_is_done_for_the_caller_is_a_scope_and_no_resource() -> None:
    found = access("mine")
    assert found.scopes == ("dashboards.genie",)
    assert "genie_space" not in {one.kind for one in found.resources}


def test_memory_brings_its_table_index_and_embedding_model() -> None:
    found = {(one.kind, one.name) for one in access("search").resources}
    assert {("table", "main.agents.memory"), ("vector_search_index", "main.agents.memory_index")} <= found
    assert ("serving_endpoint", "gte") in found


def test_an_own_agent_that_names_no_route_may_ask_all_of_them() -> None:
    assert {one.name for one in access("wrote").resources if one.kind == "serving_endpoint"} == {"chat-large", "gte"}
    assert not [one for one in access("other").resources if one.kind == "serving_endpoint"]


def test_an_agent_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownAgent, match="'gone'"):
        access("gone")


def test_a_package_holds_no_secret_and_no_door(tmp_path: Path) -> None:
    write_package(tmp_path, "desk", FILES, access("desk"), prompts={"hello_v1.txt": b"Hello."})
    written = "".join(file.read_text() for file in sorted(tmp_path.rglob("*")) if file.is_file())
    assert "the-key-itself" not in written
    assert "sha256" not in written
    assert "finance" not in written
    config = yaml.safe_load((tmp_path / "lakemesh.yaml").read_text())
    assert set(config["agents"]) == {"desk", "analyst", "rate"}
    assert config["models"]["endpoints"]["small"]["api_key"] == "${LAKEMESH_SECRETS_LLM_KEY}"
    assert (tmp_path / "prompts/hello_v1.txt").read_text() == "Hello."


def test_the_package_is_a_configuration_once_its_variables_are_given() -> None:
    variables = variables_of(FILES, access("desk"))
    assert variables.secrets == {"LAKEMESH_SECRETS_LLM_KEY": "llm/key"}
    assert variables.needed == ()
    again = ConfigFile("lakemesh.yaml", yaml.safe_dump(packaged_config(FILES, access("desk"))).encode())
    config = parse_config([again], {"LAKEMESH_SECRETS_LLM_KEY": "filled"})
    assert config.models.endpoints["small"].api_key == "filled"
    assert not config.telemetry.enabled


def test_the_serving_process_is_told_where_its_parts_are() -> None:
    assert environment_of(SETTINGS) == {
        "LAKEMESH_WORKSPACE": "databricks",
        "LAKEMESH_WAREHOUSE_ID": "w-1",
        "LAKEMESH_LAKEBASE_INSTANCE": "pg-1",
        "LAKEMESH_VECTOR_SEARCH_ENDPOINT": "lakemesh",
        "LAKEMESH_DATABASE": "lakebase",
    }
