"""The command line as scripts use it: output, exit codes, one sentence on stderr."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests import commands
from tests.server import MODELS

REPOSITORY = Path(__file__).parents[2]
TRANSACTION = json.dumps(
    {"transaction_id": 1, "tx_datetime": "2018-06-05T12:00:00Z", "customer_id": 5, "terminal_id": 7, "amount": 250}
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "lakemesh.yaml").write_text(f"agents: {{echo: {{class: 'lakemesh.agents.echo:EchoAgent'}}}}\n{MODELS}")
    return tmp_path


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = {"LAKEMESH_HOME": str(home / "home"), "LAKEMESH_CONFIG_FOLDER": str(home / "config")}
    return commands.run(*arguments, cwd=home, environment={**os.environ, **paths})


def test_execute_then_ask_its_telemetry(home: Path) -> None:
    answer = run(home, "execute", "echo", '{"message": "hi"}')
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["result"] == {"message": "hi"}
    statement = (
        "SELECT agent_id, door, success FROM main.agents.telemetry WHERE agent_id = :agent AND latency_ms >= :least"
    )
    rows = run(home, "sql", statement, "--param", "agent=echo", "--param", "least=0", "--format", "json")
    assert json.loads(rows.stdout) == [{"agent_id": "echo", "door": "cli", "success": True}]
    table = run(home, "sql", "SELECT 1 AS one", "--format", "csv")
    assert table.stdout == "one\n1\n"


def test_statement_and_data_from_files(home: Path) -> None:
    (home / "data.json").write_text('{"message": "from a file"}')
    assert "from a file" in run(home, "execute", "echo", "@data.json").stdout
    (home / "ask.sql").write_text("SELECT 41 + 1 AS answer")
    assert "42" in run(home, "sql", "@ask.sql").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["execute", "nobody"], 1, "call one of: echo"),
        (["execute", "echo", "{"], 1, "not JSON"),
        (["execute", "echo", '{"message": 1}'], 1, "does not fit"),
        (["execute", "echo", "{}", "--url", "http://127.0.0.1:9"], 1, "did not answer"),
        (["sql", "DROP TABLE a.b.c"], 1, "Only statements that read"),
        (["sql", "@nowhere.sql"], 1, "cannot be read"),
        (["sql", "SELECT :x", "--param", "x"], 1, "NAME=VALUE"),
        (["train-risk"], 1, "main.fraud.transactions"),
        (["train-risk", "--table", "x; DROP TABLE a.b.c"], 1, "not a name"),
        (["train-risk", "--from", "2018-07-25"], 1, "both --from and --to"),
        (["train-risk", "--from", "2018-07-31", "--to", "2018-07-25"], 1, "before it begins"),
        (["train-risk", "--from", "tomorrow", "--to", "2018-07-25"], 2, "tomorrow"),
        (["config", "check", "nowhere.yaml"], 1, "There is no file"),
        (["demo", "--transactions", "nowhere.csv"], 1, "cannot be read"),
        (["sql"], 2, "Missing argument"),
        (["unheard-of"], 2, "No such command"),
    ],
)
def test_faults_are_one_sentence_and_an_exit_code(home: Path, arguments: list[str], code: int, said: str) -> None:
    result = run(home, *arguments)
    assert result.returncode == code
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_config_check_names_every_fault(home: Path) -> None:
    assert run(home, "config", "check").returncode == 0
    (home / "config/lakemesh.prod.yaml").write_text("limits: {max_queue: -1}\nsurprise: 1")
    result = run(home, "config", "check", "--environment", "prod")
    assert result.returncode == 1
    assert "lakemesh.prod.yaml: limits.max_queue" in result.stderr
    assert "lakemesh.prod.yaml: surprise" in result.stderr


def test_shipped_configuration_has_no_faults() -> None:
    for environment in ("dev", "prod"):
        result = run(
            REPOSITORY, "config", "check", str(REPOSITORY / "config/lakemesh.yaml"), "--environment", environment
        )
        assert result.returncode == 0, result.stderr


def small_transactions(file: Path) -> None:
    from pyarrow import parquet

    from lakemesh.jobs.card_transactions import Method, generate
    from lakemesh.jobs.transactions_io import label_rows, transaction_rows

    data = generate(days=70, seed=3, method=Method(customers=300, terminals=500))
    parquet.write_table(transaction_rows(data).append_column("is_fraud", label_rows(data).column("is_fraud")), file)


def test_demo_on_a_file_of_ones_own_leaves_a_server_that_answers(tmp_path: Path) -> None:
    """In an empty folder, as after `uvx lakemesh demo`; and what is served afterwards is what was trained."""
    small_transactions(tmp_path / "own.parquet")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEMESH")}
    demo = [sys.executable, "-m", "lakemesh.cli", "demo", "--transactions", "own.parquet", "--requests", "100"]
    with subprocess.Popen(
        [*demo, "--stay"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Stop with Ctrl-C" in line:
                break
        address = re.search(r"The server is up: (http://[\d.:]+)/", said)
        assert address is not None, said
        assert httpx.get(f"{address[1]}/console/api/me").status_code == 200
        trace = re.search(r"#traces/(\w{32})", said)
        assert trace is not None, said
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert "main.agents.telemetry" in said
    (exported,) = re.findall(r"export (.*)", said)
    variables = dict(pair.split("=") for pair in exported.split())
    drawn = commands.run("traces", trace[1], cwd=tmp_path, environment={**environment, **variables})
    assert "risk_scorer" in drawn.stdout
    answer = commands.run("execute", "risk_scorer", TRANSACTION, cwd=tmp_path, environment={**environment, **variables})
    assert 0 <= json.loads(answer.stdout)["result"]["score"] <= 1


def test_demo_is_made_anew_in_ones_own_workspace(home: Path) -> None:
    """With the agents in the folder's configuration `lakemesh serve` serves what was trained."""
    small_transactions(home / "own.parquet")
    shutil.copytree(REPOSITORY / "config", home / "config", dirs_exist_ok=True)
    demo = ["demo", "--transactions", "own.parquet", "--requests", "20"]
    for _ in range(2):
        result = run(home, *demo)
        assert result.returncode == 0, result.stderr
        assert "lakemesh serve" in result.stdout
    assert json.loads(run(home, "execute", "fraud_detector", TRANSACTION).stdout)["result"]["decision"]
    (home / "home/made-by-lakemesh-demo").unlink()
    assert "that the demo did not make" in run(home, *demo).stderr


def test_the_configuration_of_the_demo_is_this_repositorys() -> None:
    shipped = REPOSITORY / "lakemesh/jobs/fraud_demo"
    for file in filter(Path.is_file, shipped.rglob("*")):
        assert file.read_text() == (REPOSITORY / "config" / file.relative_to(shipped)).read_text()


def test_demo_leaves_folders_that_are_not_its_own(home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine/precious.txt").write_text("keep")
    result = run(home, "demo", "--home", "mine")
    assert result.returncode == 1
    assert (home / "mine/precious.txt").read_text() == "keep"


def test_traces_lists_and_draws(home: Path) -> None:
    answer = json.loads(run(home, "execute", "echo", '{"message": "hi"}').stdout)
    listed = run(home, "traces")
    assert "echo" in listed.stdout
    drawn = run(home, "traces", answer["metadata"]["trace_id"])
    assert "invoke_agent echo" in drawn.stdout
    assert run(home, "traces", "0" * 32).returncode == 1


def test_traces_are_named_by_what_fits_on_a_line(home: Path) -> None:
    answer = json.loads(run(home, "execute", "echo", '{"message": "x"}').stdout)
    whole = answer["metadata"]["trace_id"]
    listed = run(home, "traces", "--agent", "echo").stdout
    assert whole[:12] in listed
    assert all(len(line) <= 80 for line in listed.splitlines())
    for name in (whole[:12], "last"):
        assert "invoke_agent echo" in run(home, "traces", name).stdout
    [row] = [json.loads(line) for line in run(home, "traces", "--json").stdout.splitlines()]
    assert (row["trace_id"], row["outcome"]) == (whole, "ok")
    assert whole[:12] not in run(home, "traces", "--failed").stdout
    assert whole[:12] not in run(home, "traces", "--agent", "nobody").stdout
    assert run(home, "traces", "%").returncode == 1


def test_a_trace_says_what_was_asked_and_why_it_failed(home: Path) -> None:
    (home / "mine.py").write_text('def fail(name: str) -> str:\n    "Fails."\n    raise ValueError(f"no {name}")\n')
    (home / "config/lakemesh.yaml").write_text(
        f"agents: {{fail: {{function: 'mine:fail'}}}}\ntelemetry: {{capture_content: true}}\n{MODELS}"
    )
    said = run(home, "execute", "fail", '{"name": "luck"}')
    assert said.returncode == 1
    assert "UserWarning" not in said.stderr
    drawn = run(home, "traces", "last", "--failed").stdout
    assert 'input: {"name": "luck"}' in drawn
    logged = run(home, "logs", "--here", "--search", "failed").stdout
    assert re.search(r"ERROR +agent failed +[0-9a-f]{12}", logged), logged
    assert "! ValueError: no luck" in drawn
    assert "! mine.py:3" in drawn


def test_top_watches_a_server(home: Path) -> None:
    from tests.server import running_server

    with running_server(home / "home", home / "config") as server:
        execute = ["execute", "echo", '{"message": "hi"}', "--url", server.url]
        assert run(home, *execute).returncode == 0
        seen = run(home, "top", "--once", "--url", server.url)
    assert seen.returncode == 0, seen.stderr
    assert "echo" in seen.stdout
    assert run(home, "top", "--once", "--url", "http://127.0.0.1:9").returncode == 1


def test_memories_are_listed_searched_exported_and_forgotten(home: Path) -> None:
    """Beside what a server would do: each command is a process of its own."""
    (home / "config" / "lakemesh.yaml").write_text(
        f"agents: {{diary: {{class: 'tests.memory.diary:Diary'}}}}\n{MODELS}"
    )
    for note in ("a stolen card", "rain in the mountains"):
        answer = run(home, "execute", "diary", json.dumps({"note": note}))
        assert answer.returncode == 0, answer.stderr
    listed = run(home, "memory", "list", "--limit", "1")
    assert "rain in the" in listed.stdout
    assert "--after" in listed.stderr
    assert "stolen" in run(home, "memory", "search", "the card was stolen", "--limit", "1").stdout
    lines = [json.loads(line) for line in run(home, "memory", "export", "--agent", "diary").stdout.splitlines()]
    assert [line["text"] for line in lines] == ["rain in the mountains", "a stolen card"]
    assert "1 forgotten" in run(home, "memory", "forget", "--yes", lines[0]["memory_id"]).stdout
    assert "1 added" in run(home, "memory", "reconcile", "--rebuild").stdout
    assert run(home, "memory", "forget", "--yes").returncode == 1


def test_rows_that_are_too_wide_are_told_one_below_the_other(home: Path) -> None:
    run(home, "execute", "echo", '{"message": "hi"}')
    shown = run(home, "sql", "SELECT * FROM main.agents.telemetry")
    assert re.search(r"^agent_id +echo$", shown.stdout, re.MULTILINE)
    assert "┃" not in shown.stdout
    assert shown.stderr.splitlines()[0] == f"this machine, workspace {home}/home, environment dev"
    narrow = run(home, "sql", "SELECT agent_id, door, success FROM main.agents.telemetry")
    assert re.search(r"^echo +cli +True *$", narrow.stdout, re.MULTILINE)
    assert json.loads(run(home, "sql", "SELECT 1 AS one", "--json").stdout) == [{"one": 1}]


def test_a_conversation_in_a_terminal(home: Path) -> None:
    """In a server of this folder, and on one that runs; its session is found afterwards."""
    from tests.server import running_server

    (home / "config/lakemesh.yaml").write_text(
        "agents: {helper: {class: tool_agent, options: {instructions: Help.}},"
        " numbers: {class: tests.memory.diary:Diary}}\n"
        f"telemetry: {{capture_content: true}}\n{MODELS}"
    )
    said = run(home, "chat", "--session", "s1", "-m", "Hello there", "-m", "And again")
    assert said.stdout.splitlines() == ["[offline model] Hello there", "[offline model] And again"]
    assert "helper, session s1" in said.stderr
    assert "takes a text; there are: helper." in run(home, "chat", "numbers", "-m", "x").stderr
    with running_server(home / "home", home / "config") as server:
        events = run(home, "chat", "helper", "--json", "-m", "Hello", "--url", server.url).stdout.splitlines()
        assert json.loads(events[0])["type"] == "started"
        assert json.loads(events[-1])["result"]
    listed = map(json.loads, run(home, "sessions", "list", "--json", "--agent", "helper").stdout.splitlines())
    assert [row["turns"] for row in listed if row["session_id"] == "s1"] == [2]
    shown = run(home, "sessions", "show", "s1").stdout
    assert "> Hello there\n  [offline model] Hello there" in shown
    assert run(home, "sessions", "show", "nowhere").returncode == 1


def test_what_a_server_does_as_json(home: Path) -> None:
    from tests.server import running_server

    with running_server(home / "home", home / "config") as server:
        refused = run(home, "execute", "nobody", "--url", server.url)
        assert refused.stderr.startswith("Unknown agent: "), refused.stderr
        run(home, "execute", "echo", '{"message": "hi"}', "--url", server.url)
        seen = json.loads(run(home, "top", "--json", "--url", server.url).stdout)
    assert (seen["agent"], seen["executions"], seen["failed"]) == ("echo", 1, 0)
