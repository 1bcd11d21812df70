"""What `lakemesh init` makes works as it is: its tests, its checks, its container, its manifests."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from lakemesh.deploy.scaffold import KINDS, make_app
from lakemesh.errors import InvalidRequest
from tests import commands
from tests.deploy.shell import REPOSITORY
from tests.deploy.test_bundle import load, validator
from tests.server import running_server

WORKFLOWS = (".github/workflows/deploy.yml", ".github/workflows/ci.yml")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app("corner-shop", tmp_path_factory.mktemp("apps"))


def run(app: Path, *command: str, code: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LAKEMESH_HOME": str(app.parent / "home")}
    finished = subprocess.run(command, cwd=app, capture_output=True, text=True, env=environment, timeout=120)
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("kinds")
    return {kind: make_app(f"shop-{kind}", parent, kind) for kind in KINDS}


def test_every_kind_passes_its_own_tests_and_is_clean(kinds: dict[str, Path]) -> None:
    """In one process for all of them; each has a package of its own."""
    (parent,) = {made.parent for made in kinds.values()}
    paths = " ".join(made.name for made in kinds.values())
    quick = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", f"pythonpath={paths}", "--rootdir=.")
    said = run(parent, sys.executable, "-m", "pytest", *quick, *(f"{made.name}/tests" for made in kinds.values()))
    assert re.search(r"^2[0-9] passed", said, re.MULTILINE), said
    run(parent, sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    run(parent, sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_configured_and_measured(kinds: dict[str, Path], kind: str) -> None:
    made = kinds[kind]
    for environment in ("staging", "prod"):
        checked = commands.run("config", "check", "-e", environment, cwd=made, environment=os.environ)
        assert checked.returncode == 0, checked.stderr
    (suite,) = (made / "evaluation").glob("*.yaml")
    agents = yaml.safe_load((made / "config/lakemesh.yaml").read_text())["agents"]
    assert yaml.safe_load(suite.read_text())["agent"] in agents
    assert f"evaluation/{suite.name}" in (made / WORKFLOWS[0]).read_text()
    for name in ("AGENTS.md", "llms.txt", "README.md"):
        for link in re.findall(r"\]\((?!http)([^)]+)\)", (made / name).read_text()):
            assert (made / link).exists(), link


def test_its_agents_answer_on_the_embedded_workspace(app: Path) -> None:
    command = [sys.executable, "-m", "lakemesh.cli"]
    answer = json.loads(run(app, *command, "execute", "assistant", '{"question": "What is for sale?"}'))
    assert "What is for sale?" in answer["result"]["answer"]
    for environment in ("dev", "prod"):
        run(app, *command, "config", "check", "--environment", environment)


def test_its_suite_is_not_passed_by_the_laptops_stand_in(app: Path) -> None:
    """Which answers, and says that there is no model."""
    command = [sys.executable, "-m", "lakemesh.cli", "evaluate", "evaluation/assistant.yaml"]
    said = run(app, *command, "--reports", str(app.parent / "reports"), code=1)
    assert "12 cases" in said
    assert "pii: mean >= 1 (1): passed" in said
    assert "succeeds: mean >= 0.95 (0): failed" in said


@pytest.mark.parametrize("name", WORKFLOWS)
def test_production_waits_for_what_is_measured_on_staging(app: Path, name: str) -> None:
    file = app / name if (app / name).exists() else REPOSITORY / name
    jobs = yaml.safe_load(file.read_text())["jobs"]
    assert jobs["deploy"]["needs"] == "staging"
    commands = [step.get("run", "").partition("lakemesh")[2] for step in jobs["staging"]["steps"]]
    applied, evaluated = (next(n for n, c in enumerate(commands) if word in c) for word in (" apply ", " evaluate "))
    assert applied < evaluated
    assert "--environment staging" in commands[evaluated]
    assert not any("continue-on-error" in step for step in jobs["staging"]["steps"])
    suite = re.search(r"evaluation/\S+\.yaml", commands[evaluated])
    assert suite is not None
    assert (file.parents[2] / suite[0]).is_file()
    assert "gates:" in (file.parents[2] / suite[0]).read_text()


def test_nothing_is_left_to_fill_in(app: Path) -> None:
    for file in app.rglob("*"):
        if file.is_file() and file.suffix != ".whl":
            assert not re.search(r"\[\[ |\[%", file.read_text()), file


@pytest.mark.parametrize("name", ["", "../up", "/tmp/x", "a b", "Shop", "shop.py", "-x", "a--b", "a-", "1a", "a" * 22])
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a name for an app"):
        make_app(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/mine").touch()
    with pytest.raises(InvalidRequest, match="not empty"):
        make_app("shop", tmp_path)
    assert [file.name for file in (tmp_path / "shop").iterdir()] == ["mine"]


def test_its_requirements_carry_the_lakemesh_that_made_it(app: Path, tmp_path: Path) -> None:
    (requirement,) = [line for line in (app / "requirements.txt").read_text().splitlines() if line.startswith("./")]
    wheel = app / requirement.partition("[")[0]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    run(app, *pip, str(wheel))
    program = (
        "import lakemesh, lakemesh.cli.main, lakemesh.deploy.scaffold as made, pathlib;"
        "made.render(pathlib.Path('made'), {'app_name': 'x'});"
        "print(lakemesh.__file__, len([file for file in pathlib.Path('made').rglob('*') if file.is_file()]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    place, files = said.split()
    assert Path(place).is_relative_to(tmp_path)
    assert int(files) >= 20


def test_manifests_keep_the_schema_and_two_replicas_warm(app: Path) -> None:
    documents = list(yaml.safe_load_all((app / "kubernetes/app.yaml").read_text()))
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    canary = list(yaml.safe_load_all((app / "kubernetes/canary/canary.yaml").read_text()))
    for document in canary[:2]:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    next_labels = canary[0]["spec"]["template"]["metadata"]["labels"]
    assert canary[1]["spec"]["selector"] == next_labels != documents[1]["spec"]["selector"]
    (rule,) = canary[2]["spec"]["rules"]  # the Gateway API is no part of those schemas
    assert [backend["name"] for backend in rule["backendRefs"]] == [
        documents[1]["metadata"]["name"],
        canary[1]["metadata"]["name"],
    ]
    kinds = {document["kind"]: document["spec"] for document in documents}
    pod = kinds["StatefulSet"]["template"]["spec"]
    (container,) = pod["containers"]
    assert kinds["StatefulSet"]["replicas"] == 2
    assert kinds["PodDisruptionBudget"]["minAvailable"] == 1
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["lifecycle"]["preStop"]
    assert pod["securityContext"]["runAsNonRoot"] is True


def instructions(file: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", file.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


@pytest.mark.parametrize("where", ["scaffold", "repository"])
def test_container_copies_what_is_there_and_is_not_root(app: Path, where: str) -> None:
    folder = app if where == "scaffold" else REPOSITORY
    steps = instructions(folder / "Dockerfile")
    for instruction, rest in steps:
        if instruction == "COPY" and "--from" not in rest:
            *sources, _ = [part for part in rest.split() if not part.startswith("--")]
            assert all((folder / source).exists() for source in sources), rest
    words = [instruction for instruction, _ in steps]
    assert dict(steps)["USER"] == "10001"
    assert words.index("USER") < words.index("CMD")
    assert words.count("FROM") == 2


def test_containers_health_check_tells_up_from_down(app: Path, tmp_path: Path) -> None:
    check = json.loads(dict(instructions(app / "Dockerfile"))["HEALTHCHECK"].partition("CMD ")[2])
    with running_server(tmp_path, REPOSITORY / "config") as server:
        program = check[2].replace("http://127.0.0.1:8000", server.url)
        assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    assert subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_workflow_uses_oidc_and_commands_that_exist(app: Path, workflow: str) -> None:
    folder = app if workflow == WORKFLOWS[0] else REPOSITORY
    content = yaml.safe_load((folder / workflow).read_text())
    assert content["permissions"]["id-token"] == "write"
    assert content["env"]["DATABRICKS_AUTH_TYPE"] == "github-oidc"
    assert "secrets." not in (folder / workflow).read_text()
    commands = [step["run"] for job in content["jobs"].values() for step in job["steps"] if "run" in step]
    asked = [re.sub(r"^python -m lakemesh.cli|^lakemesh", "", line) for line in commands if "lakemesh" in line]
    assert len(asked) >= 3
    for arguments in asked:
        command, *options = shlex.split(arguments)
        group = options[:1] if command == "config" else []
        known = run(app, sys.executable, "-m", "lakemesh.cli", command, *group, "--help")
        assert all(option in known for option in options if option.startswith("--"))


@pytest.mark.parametrize("file", ["databricks.yml", "resources/app.yml", "resources/search.yml", "resources/jobs.yml"])
def test_bundle_keeps_the_schema(app: Path, file: str) -> None:
    validator().validate(load(app / file))
