from pathlib import Path

from lakemesh.testing import Calls, ScriptedModel, calls, serve

HERE = Path(__file__).parent
PLACED = "SELECT placed FROM main.sales.orders WHERE id = 2"


def test_the_loop_ends_with_an_answer() -> None:
    model = ScriptedModel(
        calls("query_orders", statement=PLACED),
        calls("add_days", day="2026-02-27", days=30),
        "It is due on 29 March.",
    )
    with serve(HERE / "config", model=model, tables={"main.sales.orders": HERE / "data/orders.csv"}) as server:
        answer = server.execute("helper", {"message": "When is order 2 due?"})
        assert answer.result["text"].strip() == "It is due on 29 March."
        assert server.execution(answer).called == ["query_orders", "add_days"]
    assert model.requests[0].tools == ["query_orders", "add_days"]
    rows, day = model.requests[-1].told
    assert "2026-02-27" in rows
    assert day == '"2026-03-29"'


def test_a_model_that_does_not_end_is_brought_to_an_end() -> None:
    model = ScriptedModel(
        lambda asked: calls("add_days", day="2026-02-27", days=len(model.requests)) if asked.tools else "I gave up."
    )
    with serve(HERE / "config", model=model) as server:
        answer = server.execute("helper", {"message": "?"})
        assert answer.result["text"].strip() == "I gave up."
        assert "steps" in answer.degraded[0]


def test_a_wrong_tool_is_told_to_the_model() -> None:
    model = ScriptedModel(Calls([("query_orders", {"statement": "DROP TABLE main.sales.orders"})]), "I may only read.")
    with serve(HERE / "config", model=model) as server:
        assert server.execute("helper", {"message": "Remove everything"}).result["text"].strip() == "I may only read."
    assert "error" in model.requests[-1].told[0]
