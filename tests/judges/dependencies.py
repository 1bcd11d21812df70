"""Judge of the dependency ranges: does lakemesh install beside the libraries that agents' authors bring, and does it
work at the lowest versions it allows?

`python -m tests.judges.dependencies` resolves lakemesh with the newest of each companion, then installs the lowest
direct versions into an environment of its own and runs the tests of the rooms that use them. Needs a package index.
Exit code 1 when anything fails.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".cache/judges/lowest-versions"
COMPANIONS = (
    "mlflow", "databricks-langchain", "databricks-openai", "openai-agents", "google-adk", "litellm", "crewai",
    "databricks-connect", "langgraph",
)  # fmt: skip
EXTRAS = ("local-database", "train", "databricks", "charts")
"""Without the instrumentors, which need a newer OpenTelemetry than lakemesh does."""
TEST_TOOLS = (
    "pytest>=9", "pytest-xdist>=3.8", "hypothesis>=6", "schemathesis>=4", "jsonschema>=4", "pandas>=2.2",
    "prometheus-client>=0.26", "grpcio>=1.80",
)  # fmt: skip
TESTS = (
    "tests/models",
    "tests/memory",
    "tests/services",
    "tests/prompts",
    "tests/config",
    "tests/telemetry",
    "tests/agents/test_tools.py",
)
TEST_SECONDS = 900


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], capture_output=True, text=True, cwd=ROOT)


def compiled(*requirements: str) -> tuple[dict[str, str], str]:
    """What the requirements resolve to, and why they do not."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("\n".join(requirements))
        file.flush()
        found = uv("pip", "compile", "--no-header", "--no-annotate", "--python-version", "3.11", file.name)
    pins = (tuple(line.split(" ")[0].split("==", 1)) for line in found.stdout.splitlines() if "==" in line)
    return dict(pins), found.stderr


def resolve(companion: str) -> bool:
    """Whether the newest of the companion installs beside lakemesh."""
    newest = compiled(companion)[0].get(companion)
    if newest is None:
        print(f"NO {companion}: does not resolve by itself")
        return False
    beside, why = compiled(str(ROOT), f"{companion}=={newest}")
    print(f"{'ok' if beside else 'NO'} {companion} {newest}", flush=True)
    if not beside:
        print(why)
    return bool(beside)


def run_at_the_lowest() -> bool:
    """Whether the tests pass with every direct dependency at the lower end of its range."""
    pins = ENVIRONMENT.with_suffix(".txt")
    pins.parent.mkdir(parents=True, exist_ok=True)
    python = str(ENVIRONMENT / "bin/python")
    extras = [f"--extra={extra}" for extra in EXTRAS]
    for step in (
        ("pip", "compile", "--resolution", "lowest-direct", *extras, "pyproject.toml", "-o", str(pins)),
        ("venv", "--clear", "--python", sys.executable, str(ENVIRONMENT)),
        ("pip", "install", "--python", python, "-r", str(pins), *TEST_TOOLS),
    ):
        done = uv(*step)
        if done.returncode:
            print(done.stderr)
            return False
    workers = ("--numprocesses", "2", "--dist", "loadfile")
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *TESTS]
    return subprocess.run(command, cwd=ROOT, timeout=TEST_SECONDS).returncode == 0


def main() -> int:
    resolved = [resolve(companion) for companion in COMPANIONS]
    works = run_at_the_lowest()
    return 0 if all(resolved) and works else 1


if __name__ == "__main__":
    sys.exit(main())
