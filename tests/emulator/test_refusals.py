"""What the platform refuses, and what an emulator must not let in."""

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.emulator.served import ACCOUNTS, Emulator, serve, serve_by_command

OTHERS_NAME = "evil.example"


@pytest.mark.parametrize(
    "path", ["/api/2.0/apps", "/emulator/requests", "/.well-known/databricks-config", "/oidc/v1/token"]
)
def test_a_name_that_is_not_its_own(emulator: Emulator, path: str) -> None:
    """A web page whose name leads here (DNS rebinding), with a token or without."""
    port = emulator.url.rpartition(":")[2]
    for host in (OTHERS_NAME, f"{OTHERS_NAME}:{port}", f"127.0.0.1.{OTHERS_NAME}", ""):
        headers = {"host": host, "authorization": "Bearer emulator-token"}
        assert httpx.get(emulator.url + path, headers=headers).status_code in (400, 421), host
    assert httpx.get(emulator.url + path, headers={"host": f"localhost:{port}"}).status_code != 421


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/emulator/faults"),
        ("DELETE", "/emulator/faults"),
        ("GET", "/emulator/requests"),
        ("DELETE", "/emulator/tokens"),
    ],
)
def test_its_controls_are_its_administrators(emulator: Emulator, method: str, path: str) -> None:
    assert httpx.request(method, emulator.url + path).status_code == 401
    assert emulator.call(method, path, token="token-ann").status_code == 403


def test_credentials_are_made_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serve_by_command(home, LAKEMESH_EMULATOR_TOKEN="") as emulator:
        kept = json.loads((home / "emulator-accounts.json").read_text())
        assert len(kept["token"]) > 30
        assert emulator.call("GET", "/api/2.0/apps", token=kept["token"]).status_code == 200
        for guess in ("emulator-token", "none"):
            assert emulator.call("GET", "/api/2.0/apps", token=guess).status_code == 401
        basic = base64.b64encode(b"emulator-client:emulator-secret").decode()
        sent = {"authorization": f"Basic {basic}"}
        assert httpx.post(f"{emulator.url}/oidc/v1/token", headers=sent).status_code == 401
        emulator.call("POST", "/api/2.0/secrets/scopes/create", {"scope": "s"}, token=kept["token"]).raise_for_status()
        for name in ("emulator-accounts.json", "emulator.json"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        said = run("--home", str(home), "--port", "0")
        assert "Another emulator serves" in said


def test_it_listens_to_others_only_with_a_secret(tmp_path: Path) -> None:
    assert "(--token)" in run("--home", str(tmp_path), "--host", "0.0.0.0", "--port", "0")
    assert "(--token)" in run("--home", str(tmp_path), "--host", "0.0.0.0", "--port", "0", "--token", "short")


def run(*arguments: str) -> str:
    """What `lakemesh workspace` says when it refuses to start."""
    command = [sys.executable, "-m", "lakemesh.cli", "workspace", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "500"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def refused(emulator: Emulator, method: str, path: str, body: object) -> str:
    answer = emulator.call(method, path, body)
    assert answer.is_client_error, answer.text
    return answer.json()["message"]


def test_what_an_app_uses_has_to_be_there(emulator: Emulator) -> None:
    def app(**resource: object) -> dict:
        return {"name": "wishful", "resources": [{"name": "wish", **resource}]}

    endpoint = {"name": "databricks-of-another-region", "permission": "CAN_QUERY"}
    assert "not found" in refused(emulator, "POST", "/api/2.0/apps", app(serving_endpoint=endpoint))
    secret = {"scope": "nowhere", "key": "k", "permission": "READ"}
    assert "does not exist" in refused(emulator, "POST", "/api/2.0/apps", app(secret=secret))
    assert emulator.call("GET", "/api/2.0/apps/wishful").status_code == 404


def test_a_model_that_is_not_there(emulator: Emulator) -> None:
    question = {"messages": [{"role": "user", "content": "Anybody?"}]}
    assert "not found" in refused(emulator, "POST", "/serving-endpoints/nobody/invocations", question)


@pytest.mark.parametrize(("least", "most"), [(1, 2), (1_000, 4_000), (1_960, 980)])
def test_throughput_comes_in_chunks(emulator: Emulator, least: int, most: int) -> None:
    entity = {"entity_name": "m", "min_provisioned_throughput": least, "max_provisioned_throughput": most}
    body = {"name": "ours", "config": {"served_entities": [entity]}}
    assert "multiples of" in refused(emulator, "POST", "/api/2.0/serving-endpoints", body)


def test_an_upsert_has_a_size(tmp_path: Path) -> None:
    with serve(tmp_path, accounts=ACCOUNTS) as emulator:
        rows = {"inputs_json": json.dumps([{"id": "a" * 10_000_000}])}
        assert "bytes" in refused(emulator, "POST", "/api/2.0/vector-search/indexes/main.a.b/upsert-data", rows)


def test_imports_have_content_and_a_folder(emulator: Emulator) -> None:
    empty = {"path": "/Workspace/empty.py", "content": "", "format": "AUTO"}
    assert refused(emulator, "POST", "/api/2.0/workspace/import", empty) == "No input data source provided."
    path = "/api/2.0/workspace-files/import-file/Workspace/no/such/folder/file"
    assert emulator.call("POST", path).status_code == 404
    emulator.call("POST", "/api/2.0/workspace/mkdirs", {"path": "/Workspace/once"}).raise_for_status()
    path = "/api/2.0/workspace-files/import-file/Workspace/once/file?overwrite=false"
    assert [emulator.call("POST", path).status_code for _ in range(2)] == [200, 409]


def test_each_kind_of_search_endpoint_has_its_own_filters_and_sources(emulator: Emulator) -> None:
    api = "/api/2.0/vector-search"
    for name, kind in (("quick", "STANDARD"), ("large", "STORAGE_OPTIMIZED")):
        body = {"name": name, "endpoint_type": kind}
        assert emulator.call("POST", f"{api}/endpoints", body).json()["endpoint_type"] == kind
    assert "is one of" in refused(emulator, "POST", f"{api}/endpoints", {"name": "x", "endpoint_type": "TINY"})
    statement = {"warehouse_id": "emulator", "statement": "CREATE TABLE main.plain.pages (id STRING, body STRING)"}
    emulator.call("POST", "/api/2.0/sql/statements", statement).raise_for_status()

    def index(name: str) -> dict:
        texts = [{"name": "body", "embedding_model_endpoint_name": "databricks-gte-large-en"}]
        spec = {"source_table": "main.plain.pages", "pipeline_type": "TRIGGERED", "embedding_source_columns": texts}
        return {"name": name, "primary_key": "id", "index_type": "DELTA_SYNC", "delta_sync_index_spec": spec}

    said = refused(emulator, "POST", f"{api}/endpoints/quick/indexes", index("main.plain.quick"))
    assert "Change Data Feed" in said
    emulator.call("POST", f"{api}/endpoints/large/indexes", index("main.plain.large")).raise_for_status()
    asked = {"columns": ["id"], "query_text": "x", "filters_json": '{"id": "1"}'}
    assert "filter_string" in refused(emulator, "POST", f"{api}/indexes/main.plain.large/query", asked)
    upsert = {"inputs_json": '[{"id": "1"}]'}
    assert "source table" in refused(emulator, "POST", f"{api}/indexes/main.plain.large/upsert-data", upsert)


COPIES = {
    "FROM '/Volumes/main/copied/v' FILEFORMAT = AVRO": "AVRO",
    "FROM '/Volumes/main/copied/v' FILEFORMAT = CSV VALIDATE 10 ROWS": "VALIDATE",
    "FROM '/Volumes/main/copied/v' FILEFORMAT = CSV FORMAT_OPTIONS ('header' = 'true')": "FORMAT_OPTIONS",
    "FROM '/Volumes/main/copied/v' FILEFORMAT = CSV COPY_OPTIONS ('mergeSchema' = 'true')": "mergeSchema",
    "BY POSITION FROM '/Volumes/main/copied/v' FILEFORMAT = CSV": "form",
    "FROM (SELECT a FROM '/Volumes/main/copied/v' WHERE a > 1) FILEFORMAT = CSV": "form of",
}


@pytest.mark.parametrize("clauses", COPIES, ids=COPIES.values())
def test_what_copy_into_does_not_know_is_not_left_out(emulator: Emulator, clauses: str) -> None:
    statement = f"COPY INTO main.copied.t {clauses}"
    body = {"warehouse_id": "emulator", "statement": statement, "wait_timeout": "30s"}
    status = emulator.call("POST", "/api/2.0/sql/statements", body).json()["status"]
    assert status["state"] == "FAILED"
    assert "UNSUPPORTED_FEATURE" in status["error"]["message"]
    assert COPIES[clauses].lower() in status["error"]["message"].lower()


def test_files_are_copied_once_by_name_and_pattern(emulator: Emulator) -> None:
    def run(statement: str) -> list:
        body = {"warehouse_id": "emulator", "statement": statement, "wait_timeout": "30s"}
        answer = emulator.call("POST", "/api/2.0/sql/statements", body).json()
        assert answer["status"]["state"] == "SUCCEEDED", answer
        return answer["result"].get("data_array") or []

    run("CREATE SCHEMA IF NOT EXISTS main.copied")
    run("CREATE VOLUME IF NOT EXISTS main.copied.files")
    run("CREATE TABLE main.copied.rows (a BIGINT)")
    for name, number in (("one.json", 1), ("two.json", 2), ("three.csv", 3)):
        path = f"{emulator.url}/api/2.0/fs/files/Volumes/main/copied/files/{name}"
        content = f'{{"a": {number}}}\n'
        headers = {"authorization": "Bearer emulator-token"}
        assert httpx.put(path, content=content, headers=headers).status_code == 204
    copy = "COPY INTO main.copied.rows FROM '/Volumes/main/copied/files' FILEFORMAT = JSON"
    run(f"{copy} FILES = ('two.json')")
    run(f"{copy} PATTERN = '*.json'")
    assert run("SELECT a FROM main.copied.rows ORDER BY a") == [["1"], ["2"]]
    run(f"{copy} FILES = ('two.json') COPY_OPTIONS ('force' = 'true')")
    assert run("SELECT a FROM main.copied.rows ORDER BY a") == [["1"], ["2"], ["2"]]
