from pathlib import Path

from site_app import HERE, make_site
from starlette.testclient import TestClient

from lakemesh.client import EventParser
from lakemesh.config.settings import Settings


def test_the_page_and_the_stream_it_reads(tmp_path: Path) -> None:
    site = make_site(Settings(home=tmp_path, config_folder=HERE / "config"))
    with TestClient(site, base_url="http://localhost") as client:
        assert 'fetch("mesh/api/execute"' in client.get("/").text
        body = {"agent_name": "assistant", "data": {"message": "hello there"}, "session_id": "s"}
        answer = client.post("/mesh/api/execute", json=body, headers={"accept": "text/event-stream"})
        parse = EventParser()
        events = [event for line in answer.text.split("\n") if (event := parse(line)) is not None]
    assert [events[0].type, events[-1].type] == ["started", "completed"]
    assert (
        "".join(event.data["text"] for event in events if event.type == "text_delta") == "[offline model] hello there"
    )
