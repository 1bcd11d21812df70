from pathlib import Path

from lakemesh.testing import Fails, ScriptedModel, serve

CONFIG = Path(__file__).parent / "config"
STOLEN = {"text": "My card was stolen!"}
VERDICT = {"queue": "security", "urgency": 5, "reason": "a stolen card"}


def test_a_verdict() -> None:
    with serve(CONFIG, model=ScriptedModel(VERDICT)) as server:
        assert server.execute("triage", STOLEN).result == VERDICT


def test_what_does_not_fit_is_asked_for_again() -> None:
    model = ScriptedModel({"queue": "lost and found"}, VERDICT)
    with serve(CONFIG, model=model) as server:
        assert server.execute("triage", STOLEN).result == VERDICT
    assert len(model.requests) == 2


def test_without_a_model_a_rule_answers_and_says_so() -> None:
    with serve(CONFIG, model=ScriptedModel(Fails(400, "no"))) as server:
        answer = server.execute("triage", STOLEN)
    assert (answer.result["queue"], answer.confidence) == ("security", 0.2)
    assert answer.degraded
