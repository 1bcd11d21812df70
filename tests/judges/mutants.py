"""Judge of the tests: do they notice when a promise that matters most is broken?

`python -m tests.judges.mutants` plants each fault of `mutants.toml`, one at a time, in a copy of the tree and runs the
tests that must fail then. A mutant is killed when they fail, and survives when they pass. Names or parts of names
choose some of them. The tests run on the unchanged copy first: a test that fails there judges nothing. Exit code 1 when
a mutant survives, 2 when one cannot be judged or none has such a name.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
TEST_SECONDS = 900
PASSED, FAILED = 0, 1
"""Exit codes of pytest; the others say that nothing was tested."""

Verdict = Literal["killed", "SURVIVED", "ERROR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """In `file` the exact `text`, which stands there once, becomes `replacement`; then one of `tests` must fail."""

    name: str
    file: str
    text: str
    replacement: str
    tests: Sequence[str]


MUTANTS = tuple(
    Mutant(**row) for row in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["mutant"]
)


def copy_tree(place: Path) -> None:
    """What git tracks, and what it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)


def run_tests(tree: Path, tests: Sequence[str]) -> int:
    """Pytest's exit code; a run that does not end in `TEST_SECONDS` has failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={tree}-tmp", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return FAILED
    return done.returncode


@contextmanager
def planted(mutant: Mutant, tree: Path) -> Iterator[None]:
    """Raises `ValueError` when the text does not stand there exactly once."""
    file = tree / mutant.file
    former = file.read_text()
    if former.count(mutant.text) != 1:
        raise ValueError(f"the text is {former.count(mutant.text)} times in {mutant.file}, not once: write it anew")
    file.write_text(former.replace(mutant.text, mutant.replacement))
    try:
        yield
    finally:
        file.write_text(former)


def judge(mutant: Mutant, tree: Path) -> tuple[Verdict, str]:
    try:
        with planted(mutant, tree):
            code = run_tests(tree, mutant.tests)
    except ValueError as error:
        return "ERROR", str(error)
    if code not in (PASSED, FAILED):
        return "ERROR", f"pytest ended with {code}"
    return ("SURVIVED" if code == PASSED else "killed"), ""


def main(wanted: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not wanted or any(part in mutant.name for part in wanted)]
    if not chosen:
        print("no mutant has such a name")
        return 2
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder, "tree")
        copy_tree(tree)
        if run_tests(tree, sorted({test for mutant in chosen for test in mutant.tests})) != PASSED:
            print("the tests do not pass on the tree as it is, so they judge nothing")
            return 2
        for mutant in chosen:
            began = time.monotonic()
            verdict, reason = judge(mutant, tree)
            verdicts.append(verdict)
            print(f"{verdict:8} {mutant.name} ({time.monotonic() - began:.0f} s) {reason}".rstrip(), flush=True)
    print(f"{verdicts.count('killed')} of {len(verdicts)} killed")
    if "ERROR" in verdicts:
        return 2
    return 1 if "SURVIVED" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
