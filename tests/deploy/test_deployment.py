"""From an empty workspace to an app that works, through the command line; and what happens when it is interrupted.

One emulated workspace for all: each test that changes what is deployed has a target of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.shell import REPOSITORY, Shell
from tests.emulator.served import Emulator, serve_by_command
from tests.judge import JUDGE, judged

COMMAND = """command: ["python", "-m", "lakemesh.cli", "serve", "--host", "0.0.0.0"]"""
BROKEN = """command: ["python", "-c", "raise SystemExit('no such luck')"]"""
TOKEN = {"authorization": "Bearer emulator-token"}
BUDGETS = """
budgets:
  limits:
    everybody: {per: all, period: minute, tokens: 100000, steps: 900}
    hourly: {per: all, period: hour, tokens: 10000000}
"""
LATER = 600
"""Seconds; longer than any test waits."""


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lakemesh init shop` makes, telling its telemetry sooner."""
    parent = tmp_path_factory.mktemp("apps")
    command = [sys.executable, "-m", "lakemesh.cli", "init", "shop"]
    subprocess.run(command, cwd=parent, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    config = parent / "shop/config/lakemesh.yaml"
    config.write_text(f"{config.read_text()}  flush_seconds: 0.5\n")
    config.with_name("budgets.yaml").write_text(BUDGETS)
    return parent / "shop"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def emulator(home: Path) -> Iterator[Emulator]:
    with serve_by_command(home) as served:
        yield served
        for app in served.call("GET", "/api/2.0/apps").json()["apps"]:  # while there is a workspace to flush to
            served.call("POST", f"/api/2.0/apps/{app['name']}/stop")


@pytest.fixture(scope="module")
def deployed(emulator: Emulator, scaffold: Path) -> str:
    """What `lakemesh apply` and `lakemesh verify` said on the empty workspace."""
    shell, said = Shell(emulator, scaffold), ""
    for command in (["apply", "--environment", "dev"], ["verify"]):
        process = shell.start(*command)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        said += out
    return said


@pytest.fixture
def shell(emulator: Emulator, scaffold: Path, tmp_path: Path) -> Shell:
    """In a copy of the folder that the test may change."""
    emulator.clear()
    return Shell(emulator, Path(shutil.copytree(scaffold, tmp_path / "shop")))


def known(home: Path) -> list[str]:
    """Everything the workspace has, with its kind."""
    state = json.loads((home / "emulator.json").read_text())
    names = [(kind, name) for kind in ("apps", "secrets") for name in state[kind]]
    names += [(kind, name) for kind in ("catalog", "schema", "volume") for name in state["catalog"][kind]]
    names += [(kind, name) for kind in ("endpoints", "indexes") for name in state["search"][kind]]
    names += [(kind, item["display_name"]) for kind in ("dashboards", "alerts") for item in state[kind].values()]
    names += [("jobs", job["settings"]["name"]) for job in state["jobs"].values()]
    names += [("source", source.parts[-2]) for source in (home / "workspace-files").glob("**/.bundle/shop/*/source")]
    return sorted(f"{kind} {name}" for kind, name in names)


def known_of(home: Path, target: str) -> list[str]:
    """Of that, what is named after the target, without its name."""
    named = re.compile(f"(shop-|agents_|source ){target}")
    return [named.sub(r"\1", name) for name in known(home) if named.search(name)]


def changing(shell: Shell) -> list[tuple[str, str]]:
    """What this machine asked for that changes something, besides taking and giving back the lock."""
    ours = [request for request in shell.emulator.requests() if "auth/pat" in (request["user_agent"] or "")]
    locking = ("/state/deploy.lock", "/workspace/delete")
    asked = [(request["method"], request["path"]) for request in ours if request["method"] != "GET"]
    return [(method, path) for method, path in asked if not path.endswith(locking)]


def app_state(shell: Shell, name: str = "shop-dev") -> str:
    return str(shell.emulator.call("GET", f"/api/2.0/apps/{name}").json()["app_status"]["state"])


def test_from_nothing_to_verified(shell: Shell, deployed: str) -> None:
    assert " made, 0 changed, 0 as declared" in deployed
    assert "ready       ready" in deployed
    assert "1 row in shop.agents_dev.agent_executions" in deployed
    assert "Uvicorn running" in shell.run("logs")


def test_a_second_apply_changes_nothing(shell: Shell, deployed: str) -> None:
    assert "0 made, 0 changed" in shell.run("apply")
    assert changing(shell) == []
    said = shell.run("status")
    assert "missing" not in said
    assert "differs" not in said
    assert "app status: RUNNING" in said
    assert f"{shell.emulator.url} as admin@example.com, target dev, app shop-dev" in said


def test_the_platform_holds_to_budgets_of_a_minute(shell: Shell, deployed: str) -> None:
    """As a limit of the app's own principal on each endpoint it uses; what others have set there stays."""
    principal = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()["service_principal_client_id"]
    limit = {
        "key": "service_principal", "principal": principal, "renewal_period": "minute", "calls": 900, "tokens": 100000,
    }  # fmt: skip
    path = "/api/2.0/serving-endpoints/databricks-claude-sonnet-4-5"
    assert shell.emulator.call("GET", path).json()["ai_gateway"] == {"rate_limits": [limit]}
    others = {"key": "endpoint", "renewal_period": "minute", "calls": 50}
    gateway = {"usage_tracking_config": {"enabled": True}, "rate_limits": [{**limit, "tokens": 7}, others]}
    shell.emulator.call("PUT", f"{path}/ai-gateway", gateway).raise_for_status()
    assert "rate limits on databricks-claude-sonnet-4-5" in shell.run("plan")
    assert "0 made, 1 changed" in shell.run("apply")
    told = shell.emulator.call("GET", path).json()["ai_gateway"]
    assert told == {"usage_tracking_config": {"enabled": True}, "rate_limits": [others, limit]}


def test_an_app_that_does_not_start_leaves_the_former_one(shell: Shell, home: Path, deployed: str) -> None:
    before = known(home)
    app = shell.folder / "resources/app.yml"
    app.write_text(app.read_text().replace(COMMAND, BROKEN))
    said = shell.run("apply", code=1)
    assert "exit code 1" in said
    assert "no such luck" in said  # the end of its log
    assert known(home) == before
    assert app_state(shell) == "RUNNING"
    url = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()["url"]
    assert httpx.get(f"{url}/health/live", headers=TOKEN).json()["status"] == "alive"


def test_the_deployed_app_is_asked_by_its_target(shell: Shell, deployed: str) -> None:
    answer = shell.run("execute", "-e", "dev", "echo", """{"message": "from here"}""")
    assert '"message": "from here"' in answer
    url = shell.emulator.call("GET", "/api/2.0/apps/shop-dev").json()["url"]
    assert "from here" in shell.run(
        "execute", "--url", url, "--token", "emulator-token", "echo", """{"message": "from here"}"""
    )
    assert f"{url} as admin@example.com" in shell.run(
        "execute", "--url", url, "echo", """{"message": "by its address"}"""
    )
    stranger = Shell(shell.emulator, shell.folder, {"DATABRICKS_HOST": "", "DATABRICKS_CONFIG_FILE": "/nowhere"})
    said = stranger.run("execute", "--url", url, "echo", code=1)
    assert "Give --token, or ask the deployed app with -e." in " ".join(said.split())
    assert "message: Field required" in shell.run("execute", "-e", "dev", "echo", "{}", code=1)
    assert "echo" in shell.run("top", "-e", "dev", "--once")
    assert "echo" in shell.run("traces", "-e", "dev")
    said = shell.run("top", "--url", "http://127.0.0.1:9", "--once", code=1)
    assert "did not answer as a lakemesh server does" in " ".join(said.split())


def test_what_does_not_start_here_is_not_uploaded(shell: Shell, deployed: str) -> None:
    config = shell.folder / "config/lakemesh.yaml"
    config.write_text(config.read_text().replace("assistant:Assistant", "assistant:Asistant"))
    for command in ("apply", "sync"):
        assert "Asistant' cannot be loaded" in " ".join(shell.run(command, code=1).split())
    assert changing(shell) == []
    assert app_state(shell) == "RUNNING"


def test_configuration_an_app_does_not_start_with_is_put_back(shell: Shell, deployed: str) -> None:
    """The former deployment must not start on it, and after it runs again nothing is hidden from the next plan."""
    config = shell.folder / "config/lakemesh.yaml"
    good = config.read_text()
    config.write_text(good.replace("assistant:Assistant", "assistant:Asistant"))
    (shell.folder / "shop_agents/more.py").write_text("MORE = 1\n")
    said = shell.run("apply", "--no-rehearsal", code=1)
    assert "files.configs                                put back" in said
    assert app_state(shell) == "RUNNING"
    published = shell.emulator.call("GET", "/api/2.0/fs/files/Volumes/shop/agents_dev/configs/lakemesh.yaml").text
    assert published == good
    plan = shell.run("plan")
    assert "+    class: shop_agents.assistant:Asistant" in plan
    assert "0 to make, 4 to change" in plan  # the nightly job names the new source, too

    config.write_text(good)
    (shell.folder / "shop_agents/more.py").unlink()
    assert "0 to make, 0 to change" in shell.run("plan")


def test_an_app_that_is_down_is_a_difference(shell: Shell, deployed: str) -> None:
    shell.emulator.call("POST", "/api/2.0/apps/shop-dev/stop").raise_for_status()
    assert 'status: "STOPPED" -> "RUNNING"' in shell.run("plan")
    assert "0 made, 0 changed" in shell.run("apply")
    assert app_state(shell) == "RUNNING"
    shell.emulator.clear()
    assert "app status: RUNNING" in shell.run("restart")
    assert ("POST", "/api/2.0/apps/shop-dev/deployments") in changing(shell)


def test_sync_brings_files_and_never_changes_a_published_prompt(shell: Shell, deployed: str) -> None:
    config, prompts = shell.folder / "config/lakemesh.yaml", shell.folder / "config/prompts"
    config.write_text(f"{config.read_text()}\nrefresh_seconds: 60.0\n")
    (prompts / "answer_v2.jinja").write_text("Answer briefly: {{ question }}")
    said = shell.run("sync")
    assert "+refresh_seconds: 60.0" in said
    assert "0 made, 2 changed" in said
    volume = "/api/2.0/fs/files/Volumes/shop/agents_dev"
    assert "shop_agents" not in "".join(path for _, path in changing(shell))  # no source
    assert "refresh_seconds: 60.0" in shell.emulator.call("GET", f"{volume}/configs/lakemesh.yaml").text
    assert "briefly" in shell.emulator.call("GET", f"{volume}/prompts/answer_v2.jinja").text
    (prompts / "answer_v1.jinja").write_text("Something else: {{ question }}")
    assert "answer_v2" in shell.run("sync", code=1)
    assert "Answer the question" in shell.emulator.call("GET", f"{volume}/prompts/answer_v1.jinja").text


def kills() -> list[tuple[str, str, dict[str, object]]]:
    """Where `apply` is killed, in its own order: in two places, or in all of them by `make judge`."""
    before, after = {"delay_seconds": LATER}, {"status": 503, "retry_after_seconds": LATER, "after_effect": True}
    places: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "/api/2.1/unity-catalog/volumes", before),
        ("POST", "/api/2.0/sql/statements", after),
        ("POST", "/api/2.0/apps", after),
        ("PATCH", "/api/2.1/unity-catalog/permissions/schema/.*", before),
        ("POST", "/api/2.0/workspace-files/import-file/.*/shop_agents/.*", after),
        ("POST", "/api/2.0/apps/shop-staging/deployments", after),
        ("POST", "/api/2.0/lakeview/dashboards", after),
    ]
    return places if JUDGE else places[2::3]


def test_killed_anywhere_and_run_again_ends_the_same_and_goes_again(shell: Shell, home: Path, deployed: str) -> None:
    apply = ["apply", "-e", "staging"]
    for method, path, fault in kills():
        shell.kill_at(method, path, *apply, **fault)
    shell.run(*apply)
    assert "0 to make, 0 to change" in shell.run("plan", "-e", "staging")
    assert known_of(home, "staging") == known_of(home, "dev")

    assert "apps.app" in shell.run("destroy", "-e", "staging", code=1)  # nobody answered its question
    shell.run("destroy", "-e", "staging", "--yes")
    assert known_of(home, "staging") == []


def test_a_failing_step_and_what_others_have_of_the_same_name(shell: Shell, home: Path, deployed: str) -> None:
    others = {"display_name": "shop", "parent_path": "/Workspace/Users/somebody/else", "serialized_dashboard": "{}"}
    shell.emulator.call("POST", "/api/2.0/lakeview/dashboards", others).raise_for_status()
    shell.emulator.call("POST", "/api/2.2/jobs/create", {"name": "shop: upkeep"}).raise_for_status()
    schema = {"catalog_name": "shop", "name": "agents"}
    shell.emulator.call("POST", "/api/2.1/unity-catalog/schemas", schema).raise_for_status()
    before = known(home)
    shell.emulator.fault(method="POST", path="/api/2.0/alerts", status=403)
    said = shell.run("apply", "-e", "prod", "--rollback", code=1)
    assert "Permission denied" in said
    assert "apps.app                                     put back" in said
    assert known(home) == before  # also the schema that was there

    shell.emulator.fault(method="POST", path="/api/2.0/alerts", status=403)
    assert "put back" not in shell.run("apply", "-e", "prod", code=1)
    assert "apps shop" in known(home)  # for the next run to go on from
    shell.run("apply", "-e", "prod")
    assert "0 to make, 0 to change" in shell.run("plan", "-e", "prod")
    assert known(home).count("dashboards shop") == known(home).count("jobs shop: upkeep") == 2
    question = ["--agent", "assistant", "--data", """{"question": "Why?"}"""]
    assert "1 row" in shell.run("verify", "-e", "prod", *question)

    said = shell.run("destroy", "-e", "prod", "--yes")
    assert "it was there before; --all removes it too" in said
    assert "schema shop.agents" in known(home)
    assert "jobs shop: upkeep" in known(home)


def test_a_catalog_that_cannot_be_made_says_what_to_give(shell: Shell, deployed: str) -> None:
    """A metastore without storage of its own refuses a catalog without a place for its tables."""
    shell.emulator.fault(method="POST", path="/api/2.1/unity-catalog/catalogs", status=400)
    said = " ".join(shell.run("apply", "--var", "catalog=elsewhere", "--no-rehearsal", code=1).split())
    assert "The catalog elsewhere cannot be made" in said
    assert "--var storage_root=URL" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "-e", "nowhere"], "it has dev, staging, prod"),
        (["plan", "--var", "nothing"], "not NAME=VALUE"),
        (["plan", "--var", "colour=red"], "declares no such variable"),
        (["plan", "--folder", "config"], "lakemesh init"),
        (["verify", "--data", "{"], "not JSON"),
        (["logs", "-e", "staging"], "There is no app 'shop-staging'"),
    ],
)
def test_faults_are_one_sentence(shell: Shell, arguments: list[str], said: str) -> None:
    assert said in " ".join(shell.run(*arguments, code=1).split())


def test_commands_read_the_deployed_apps_workspace(shell: Shell, deployed: str) -> None:
    """By the same words as on this machine."""
    (shell.folder / "orders.csv").write_text("id,amount\n1,2.5\n2,3.5\n")
    loaded = shell.run("load", "orders.csv", "shop.agents_dev.orders", "-e", "dev")
    assert "2 rows added" in loaded
    assert "target dev, app shop-dev" in loaded
    assert "6.0" in shell.run("sql", "-e", "dev", "SELECT sum(amount) AS total FROM shop.agents_dev.orders")
    assert "this machine" not in loaded
    said = shell.run("chat", "assistant", "-e", "dev", "-m", "What is for sale?", "--session", "from-the-terminal")
    assert "What is for sale?" in said
    for command in (["sessions", "list"], ["memory", "list"]):
        assert "target dev" in shell.run(*command, "-e", "dev")


@judged
@pytest.mark.parametrize("kind", ["tools", "analyst", "pipelines", "protocols"])
def test_every_other_kind_of_app_is_deployed_as_it_is_made(emulator: Emulator, tmp_path: Path, kind: str) -> None:
    emulator.clear()
    made = Shell(emulator, tmp_path).run("init", f"new-{kind}", "--kind", kind)
    assert "is made" in made
    shell = Shell(emulator, tmp_path / f"new-{kind}")
    assert " made, 0 changed" in shell.run("apply", "-e", "staging")
    assert "ready       ready" in shell.run("verify", "-e", "staging")
    shell.run("destroy", "-e", "staging", "--yes")
