from collections import Counter
from pathlib import Path

from lakemesh.testing import RunningServer, ScriptedModel, serve

CONFIG = Path(__file__).parent / "config"
SESSIONS = [f"session-{number}" for number in range(20)]


def versions(server: RunningServer) -> dict[str, str]:
    """Which version each session is answered with."""
    for session in SESSIONS:
        server.execute("reply", {"message": "Where is my order?"}, session_id=session)
    return {str(one.session_id): one.prompts[0] for one in server.executions("reply")[-len(SESSIONS) :]}


def with_selection(selection: dict[str, object]) -> dict[str, object]:
    return {"prompts": {"selections": {"reply": selection}}}


def test_the_champion_serves() -> None:
    with serve(CONFIG, model=ScriptedModel("On its way.")) as server:
        answer = server.execute("reply", {"message": "Where is my order?"})
        assert server.execution(answer).prompts == ["reply_v1"]


def test_a_split_keeps_each_session_at_its_version() -> None:
    with serve(CONFIG, model=ScriptedModel("On its way."), config=with_selection({"split": {1: 50, 2: 50}})) as server:
        first, second = versions(server), versions(server)
    assert first == second
    assert set(Counter(first.values())) == {"reply_v1", "reply_v2"}


def test_promoted_and_rolled_back_is_a_number() -> None:
    with serve(CONFIG, model=ScriptedModel("."), config=with_selection({"aliases": {"champion": 2}})) as server:
        assert set(versions(server).values()) == {"reply_v2"}
