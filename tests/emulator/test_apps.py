"""Apps really run: through the Apps SDK, behind the proxy, as their own service principal."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, OperationFailed
from databricks.sdk.service.apps import AppDeployment
from databricks.sdk.service.workspace import ImportFormat
from websockets.sync.client import connect

from tests.emulator.served import Emulator, serve

MIRROR = b"""
import http.server, json, os

class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen = {"path": self.path, "headers": dict(self.headers), "env": dict(os.environ)}
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("asked", self.path, flush=True)

http.server.HTTPServer(("127.0.0.1", int(os.environ["DATABRICKS_APP_PORT"])), Mirror).serve_forever()
"""
APP_YAML = b"""
command: [python, mirror.py]
env:
  - {name: GREETING, value: hello}
  - {name: WAREHOUSE, valueFrom: warehouse}
  - {name: FOLDER, valueFrom: folder}
  - {name: KEY, valueFrom: key}
"""
RESOURCES = [
    {"name": "warehouse", "sql_warehouse": {"id": "emulator", "permission": "CAN_USE"}},
    {
        "name": "folder",
        "uc_securable": {
            "securable_full_name": "main.mirror.files",
            "securable_type": "VOLUME",
            "permission": "READ_VOLUME",
        },
    },
    {"name": "key", "secret": {"scope": "mirror", "key": "k", "permission": "READ"}},
]
SOURCE = "/Workspace/apps/mirror"
TOKEN = {"authorization": "Bearer emulator-token"}


def client_of(emulator: Emulator) -> WorkspaceClient:
    return WorkspaceClient(host=emulator.url, token="emulator-token", auth_type="pat")


def upload(client: WorkspaceClient, folder: str, **files: bytes) -> None:
    client.workspace.mkdirs(folder)
    for name, content in files.items():
        path = f"{folder}/{name.replace('_', '.')}"
        client.workspace.upload(path, content, format=ImportFormat.AUTO, overwrite=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def emulator(home: Path) -> Iterator[Emulator]:
    with serve(home) as served:
        client = client_of(served)
        client.catalogs.create("kept")
        client.secrets.create_scope("mirror")
        client.secrets.put_secret("mirror", "k", string_value="s3cret")
        upload(client, SOURCE, mirror_py=MIRROR, app_yaml=APP_YAML)
        client.api_client.do("POST", "/api/2.0/apps", body={"name": "mirror", "resources": RESOURCES})
        yield served


@pytest.fixture(scope="module")
def url(emulator: Emulator) -> str:
    return deploy(emulator)


def deploy(emulator: Emulator, folder: str = SOURCE) -> str:
    client = client_of(emulator)
    client.apps.deploy_and_wait("mirror", AppDeployment(source_code_path=folder))
    app = client.apps.get("mirror")
    assert app.app_status is not None
    assert app.app_status.state is not None
    assert app.app_status.state.value == "RUNNING"
    return str(app.url)


def test_an_app_runs_with_its_environment_and_the_proxys_headers(url: str) -> None:
    forged = {**TOKEN, "x-forwarded-user": "somebody-else"}
    seen = httpx.get(f"{url}/a/b?c=d", headers=forged).json()
    assert seen["path"] == "/a/b?c=d"
    assert seen["headers"]["x-forwarded-user"] == "admin@example.com"
    assert "x-forwarded-access-token" not in seen["headers"]  # it asks its users for nothing
    assert "authorization" not in {name.lower() for name in seen["headers"]}
    environment = seen["env"]
    told = {name: environment[name] for name in ("GREETING", "WAREHOUSE", "FOLDER", "KEY", "DATABRICKS_APP_NAME")}
    assert told == {
        "GREETING": "hello",
        "WAREHOUSE": "emulator",
        "FOLDER": "/Volumes/main/mirror/files",
        "KEY": "s3cret",
        "DATABRICKS_APP_NAME": "mirror",
    }
    assert httpx.get(f"{url}/").status_code == 401


def test_a_users_token_is_good_for_the_scopes_the_app_declares(emulator: Emulator, url: str) -> None:
    def change(**members: object) -> httpx.Response:
        return emulator.call("PATCH", "/api/2.0/apps/mirror", members)

    assert change(user_api_scopes=["sql", "files"]).json()["effective_user_api_scopes"][:2] == ["sql", "files"]
    token = httpx.get(f"{url}/", headers=TOKEN).json()["headers"]["x-forwarded-access-token"]
    assert token != "emulator-token"
    assert emulator.call("GET", "/api/2.0/preview/scim/v2/Me", token=token).json()["userName"] == "admin@example.com"
    assert emulator.call("GET", "/api/2.0/sql/warehouses", token=token).status_code == 200
    refused = emulator.call("GET", "/api/2.0/genie/spaces", token=token)
    assert refused.status_code == 403
    assert refused.json()["message"] == "Provided OAuth token does not have required scopes: genie"
    assert emulator.call("GET", "/emulator/requests", token=token).status_code == 403
    assert change(user_api_scopes=["jobs.jobs"]).status_code == 400
    change(user_api_scopes=[])
    assert "x-forwarded-access-token" not in httpx.get(f"{url}/", headers=TOKEN).json()["headers"]


def test_an_app_acts_with_its_own_rights(emulator: Emulator, url: str) -> None:
    environment = httpx.get(f"{url}/", headers=TOKEN).json()["env"]
    theirs = WorkspaceClient(
        host=environment["DATABRICKS_HOST"],
        client_id=environment["DATABRICKS_CLIENT_ID"],
        client_secret=environment["DATABRICKS_CLIENT_SECRET"],
    )
    assert theirs.current_user.me().user_name == environment["DATABRICKS_CLIENT_ID"]
    path = "/api/2.0/fs/files/Volumes/main/mirror"
    emulator.call("PUT", f"{path}/files/x").raise_for_status()
    emulator.call("PUT", f"{path}/others/x").raise_for_status()
    token = theirs.config.authenticate()["Authorization"].removeprefix("Bearer ")
    assert emulator.call("GET", f"{path}/files/x", token=token).status_code == 200
    assert emulator.call("PUT", f"{path}/files/x", token=token).status_code == 403
    assert emulator.call("GET", f"{path}/others/x", token=token).status_code == 403
    assert emulator.call("GET", "/api/2.0/secrets/get?scope=mirror&key=k", token=token).status_code == 200


def test_a_deployment_that_fails_leaves_the_former_one_running(emulator: Emulator, url: str) -> None:
    upload(client_of(emulator), "/Workspace/apps/broken", app_yaml=b"command: [python, -c, 'raise SystemExit(3)']")
    with pytest.raises(OperationFailed, match="exit code 3"):
        deploy(emulator, "/Workspace/apps/broken")
    assert httpx.get(f"{url}/still", headers=TOKEN).json()["path"] == "/still"


def test_the_log_is_streamed(url: str) -> None:
    httpx.get(f"{url}/log-first", headers=TOKEN)
    with connect(f"{url.replace('http', 'ws')}/logz/stream", additional_headers=TOKEN) as stream:
        stream.send("asked /log-")
        assert json.loads(stream.recv(timeout=10))["message"] == "asked /log-first"
        httpx.get(f"{url}/log-second", headers=TOKEN)
        assert json.loads(stream.recv(timeout=10))["message"] == "asked /log-second"


def test_what_the_emulator_knows_outlives_it(emulator: Emulator, url: str, home: Path) -> None:
    with serve(shutil.copytree(home, home.with_name("later"))) as later:
        client = client_of(later)
        assert client.catalogs.get("kept").name == "kept"
        while httpx.get(f"{later.url}/emulator/apps/mirror/", headers=TOKEN).status_code == 503:
            pass  # it is starting
        seen = httpx.get(f"{later.url}/emulator/apps/mirror/again", headers=TOKEN).json()
        assert seen["env"]["KEY"] == "s3cret"
        client.apps.delete("mirror")
        with pytest.raises(NotFound):
            client.apps.get("mirror")
        assert later.call("GET", "/emulator/apps/mirror/").status_code == 404
