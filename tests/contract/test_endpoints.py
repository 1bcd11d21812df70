import pytest

from lakemesh.lakehouse.workspace import Workspace
from lakemesh.schemas import Identity

pytestmark = pytest.mark.anyio

REQUEST = {"messages": [{"role": "user", "content": "Say something."}]}


async def test_a_chat(workspace: Workspace) -> None:
    endpoint = workspace.endpoints.serving_endpoint("databricks-claude-sonnet-4-5")
    answer = await endpoint.chat(REQUEST, timeout_seconds=10)
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] > 0


async def test_a_streamed_chat_says_the_same(workspace: Workspace) -> None:
    endpoint = workspace.endpoints.serving_endpoint("databricks-claude-sonnet-4-5")
    whole = await endpoint.chat(REQUEST, timeout_seconds=10)
    chunks = [chunk async for chunk in endpoint.stream_chat(REQUEST, timeout_seconds=10)]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert len(chunks) > 1


async def test_embeddings_keep_the_order(workspace: Workspace) -> None:
    endpoint = workspace.endpoints.serving_endpoint("databricks-bge-large-en")
    together = await endpoint.embed(["one", "two"], timeout_seconds=10)
    alone = [(await endpoint.embed([text], timeout_seconds=10)).vectors[0] for text in ("one", "two")]
    assert together.vectors == [pytest.approx(vector) for vector in alone]
    assert together.vectors[0] != together.vectors[1]
    assert together.input_tokens > 0
    assert together.model == "offline-1024"


async def test_ping(workspace: Workspace) -> None:
    await workspace.ping()


async def test_on_behalf_of_a_user(workspace: Workspace) -> None:
    identity = Identity(user="admin@example.com", token="emulator-token")
    theirs = await workspace.on_behalf_of(identity)
    await theirs.volumes.write("/Volumes/main/obo/files/x", b"1", overwrite=True)
    assert await workspace.volumes.read("/Volumes/main/obo/files/x") == b"1"
