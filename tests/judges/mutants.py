"""Judge of the tests: do they notice when a promise that matters most is broken?

`python -m tests.judges.mutants` plants each fault of `MUTANTS`, one at a time, in a copy of the tree and runs the tests
that must fail then. A mutant is killed when they fail, and survives when they pass. Names or parts of names choose some
of them. The tests run on the unchanged copy first: a test that fails there judges nothing. Exit code 1 when a mutant
survives, 2 when one cannot be judged.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
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
    tests: tuple[str, ...]


USERS, EVENTS, LIFECYCLE = "tests/engine/test_users.py", "tests/engine/test_events.py", "tests/engine/test_lifecycle.py"
READERS, REFRESH = "tests/engine/test_readers.py", "tests/config/test_refresh.py"

MUTANTS = (
    Mutant(
        name="a nested call skips the policy",
        file="lakemesh/engine/router.py",
        text="        require_may_call(context.identity, agent_name, registered.config)\n",
        replacement="",
        tests=(f"{USERS}::test_nested_calls_keep_to_the_callers_policy",),
    ),
    Mutant(
        name="a nested call outlives its caller's deadline",
        file="lakemesh/engine/router.py",
        text="deadline=caller.current_deadline().sooner(registered.config.timeout_seconds),",
        replacement="deadline=Deadline.after(registered.config.timeout_seconds),",
        tests=(
            f"{EVENTS}::test_a_nested_call_never_outlives_its_callers_share",
            f"{EVENTS}::test_a_nested_call_never_outlives_its_caller",
        ),
    ),
    Mutant(
        name="users share idempotency keys",
        file="lakemesh/engine/idempotency.py",
        text="    return identity.user, request.agent_name,",
        replacement='    return "", request.agent_name,',
        tests=(f"{USERS}::test_one_users_key_is_nothing_to_another",),
    ),
    Mutant(
        name="a slot is leaked when the turn comes as the wait ends",
        file="lakemesh/governance/admission.py",
        text="            self.leave()  # the slot came",
        replacement="            pass  # the slot came",
        tests=(f"{LIFECYCLE}::test_a_turn_that_comes_as_the_wait_ends_leaks_no_slot",),
    ),
    Mutant(
        name="replaced agents are never closed",
        file="lakemesh/engine/registry.py",
        text="                registered.lifecycle.retire()",
        replacement="                pass",
        tests=(f"{LIFECYCLE}::test_a_replaced_agent_is_closed_when_its_last_run_ends",),
    ),
    Mutant(
        name="removed agents keep being served",
        file="lakemesh/engine/registry.py",
        text="{**self._agents, **agents}.items() if name in names}",
        replacement="{**self._agents, **agents}.items()}",
        tests=(f"{LIFECYCLE}::test_a_removed_agent_is_gone_and_closed",),
    ),
    Mutant(
        name="a refresh never reaches the tokens",
        file="lakemesh/composition/services.py",
        text="        register(lambda new: self.authenticator.prepare(new.auth, needs_groups=new.names_groups))\n",
        replacement="",
        tests=(f"{REFRESH}::test_tokens_change_under_load_and_the_last_one_stays",),
    ),
    Mutant(
        name="a refresh never reaches the models",
        file="lakemesh/composition/services.py",
        text="        register(lambda new: self.models.prepare(new.models))\n",
        replacement="",
        tests=("tests/models/test_refresh.py",),
    ),
    Mutant(
        name="a refresh never reaches the limits",
        file="lakemesh/composition/services.py",
        text="            self.router.configure(config)\n",
        replacement="",
        tests=(f"{LIFECYCLE}::test_limits_change_under_load", f"{REFRESH}::test_limits_change_under_load"),
    ),
    Mutant(
        name="who leaves an event stream does not cancel the agent",
        file="lakemesh/event_stream.py",
        text="            await asyncio.wait([leaving, sending], return_when=asyncio.FIRST_COMPLETED)\n",
        replacement="            await asyncio.wait([sending])\n",
        tests=(f"{READERS}::test_who_leaves_cancels_the_agent",),
    ),
    Mutant(
        name="memories of other users are found",
        file="lakemesh/memory/access.py",
        text="        return Reach(scope.identity.user, agent_ids)",
        replacement="        return Reach(user, agent_ids)",
        tests=("tests/memory/test_second_caller.py::test_one_users_memory_is_not_anothers_whatever_session_they_name",),
    ),
    Mutant(
        name="an experiment's arm goes by execution in place of session",
        file="lakemesh/prompts/store.py",
        text='(scope.session_id or scope.root.execution_id if scope else "")',
        replacement='(scope.root.execution_id if scope else "")',
        tests=(f"{LIFECYCLE}::test_a_session_keeps_its_arm",),
    ),
    Mutant(
        name="the end of a WebSocket does not cancel its runs",
        file="lakemesh/services/websocket.py",
        text="            runs = list(self._runs.values())\n",
        replacement="            runs: list[asyncio.Task[None]] = []\n",
        tests=(f"{READERS}::test_who_leaves_cancels_the_agent",),
    ),
    Mutant(
        name="the rate limit counts all users as one",
        file="lakemesh/governance/rate_limit.py",
        text="        limit = self._limit\n",
        replacement='        limit, user = self._limit, ""\n',
        tests=(f"{USERS}::test_limits_count_each_user_and_unknown_agents_too",),
    ),
    Mutant(
        name="the table's filter on a memory's user is dropped",
        file="lakemesh/memory/selection.py",
        text='        listed["user"] = [self.user] if self.user is not None else None\n',
        replacement="",
        tests=(
            "tests/memory/test_memory.py::test_users_do_not_reach_each_others_memories",
            "tests/memory/test_second_caller.py::test_one_users_memory_is_not_anothers_whatever_session_they_name",
        ),
    ),
    Mutant(
        name="the last token's removal opens the server",
        file="lakemesh/governance/identity.py",
        text="        if self.requires_token and not config.tokens and not config.jwt:\n",
        replacement="        if False:\n",
        tests=(f"{REFRESH}::test_tokens_change_under_load_and_the_last_one_stays",),
    ),
    Mutant(
        name="a spool's failed commit is not rolled back",
        file="lakemesh/spool/spool.py",
        text='                        self._database.execute("ROLLBACK")',
        replacement="                        pass",
        tests=("tests/test_spool.py::test_a_failing_commit_leaves_nothing_half_done",),
    ),
    Mutant(
        name="a forgotten memory comes back with a late delivery",
        file="lakemesh/memory/delivery.py",
        text="        gone = await self.forgotten_among([record.memory_id for record in records])\n",
        replacement="        gone: list[str] = []\n",
        tests=(
            "tests/memory/test_memory.py::test_what_is_forgotten_before_it_is_written_never_appears",
            "tests/memory/test_memory.py::test_forgetting_what_another_process_has_not_delivered_yet",
        ),
    ),
    Mutant(
        name="the rule of hosts and origins is skipped",
        file="lakemesh/edge/edge.py",
        text='            self._source.check(headers_of(scope), scope["scheme"])\n',
        replacement="",
        tests=("tests/edge/test_source.py::test_no_door_answers_a_rebound_name_or_another_origin",),
    ),
    Mutant(
        name="another user's answer to a question is accepted",
        file="lakemesh/engine/asks.py",
        text="question is None or listener.run.scope.identity.user != identity.user:",
        replacement="question is None:",
        tests=(f"{USERS}::test_a_question_is_answered_by_its_own_user_alone",),
    ),
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
    if "ERROR" in verdicts or not verdicts:
        return 2
    return 1 if "SURVIVED" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
