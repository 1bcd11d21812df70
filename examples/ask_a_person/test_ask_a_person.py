from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakemesh.client import ServerError
from lakemesh.testing import RunningServer, serve


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(Path(__file__).parent / "config") as running:
        yield running


def refund(server: RunningServer, amount: float, answer: Any) -> Any:
    """The result, when the question is answered so."""
    for event in server.stream("refund", {"order": "4711", "amount": amount}):
        if event.type == "asked":
            assert event.data["message"] == f"Pay back {amount:.2f} for order 4711?"
            server.answer(event.data["execution_id"], event.data["question_id"], answer)
        if event.type == "completed":
            return event.data["result"]
    raise AssertionError("the stream had no end")


def test_a_small_sum_needs_nobody(server: RunningServer) -> None:
    assert server.execute("refund", {"order": "1", "amount": 20}).result == {"paid": 20.0, "note": "paid"}


def test_a_large_one_is_approved_or_not(server: RunningServer) -> None:
    assert refund(server, 80.0, {"approve": True})["paid"] == 80.0
    assert refund(server, 80.0, {"approve": False, "note": "too old"}) == {"paid": 0.0, "note": "too old"}


def test_who_cannot_be_asked_is_told_what_would_be(server: RunningServer) -> None:
    with pytest.raises(ServerError, match="input_required") as refused:
        server.execute("refund", {"order": "1", "amount": 80})
    assert "approve" in refused.value.problem["schema"]["properties"]
