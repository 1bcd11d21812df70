"""Parts, skills and cards, through the official client."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from a2a.client.card_resolver import A2ACardResolver
from a2a.helpers.proto_helpers import new_data_message
from a2a.types.a2a_pb2 import GetExtendedAgentCardRequest, Message, Part, Role, SendMessageRequest
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf.json_format import MessageToDict

from tests.interop.test_a2a import connected
from tests.server import Server, running_server, write_config

pytestmark = pytest.mark.anyio

SAMPLES = "tests.agents.sample_agents"
AGENTS = f"""
  writer: {{class: {SAMPLES}:WriterAgent, expose: [a2a]}}
  trouble: {{class: {SAMPLES}:TroubleAgent, expose: [a2a]}}
  reader: {{class: {SAMPLES}:FileAgent, expose: [a2a]}}
"""
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("messages")
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    indented = pem.replace("\n", "\n    ")
    folder = write_config(
        root / "config", AGENTS, more=f"a2a:\n  enabled: true\n  signing_key_id: k1\n  signing_key: |\n    {indented}\n"
    )
    with running_server(root / "home", folder) as running:
        yield running


async def ask(server: Server, message: Message) -> dict:

    async with connected(server.url, "JSONRPC", "1.0", streaming=False) as client:
        task = [item async for item in client.send_message(SendMessageRequest(message=message))][-1].task
        return MessageToDict(task.artifacts[-1].parts[0].data)


async def test_without_a_name_the_skill_is_the_one_the_data_fits(server: Server) -> None:
    assert await ask(server, new_data_message({"words": ["a", "b"]}, role=Role.ROLE_USER)) == {"text": "a b"}
    with pytest.raises(InvalidParamsError, match="reader, trouble, writer"):
        await ask(server, new_data_message({"unknown": 1}, role=Role.ROLE_USER))


async def test_files_reach_the_agent_that_takes_them(server: Server) -> None:
    message = Message(message_id="m", role=Role.ROLE_USER)
    message.parts.append(Part(raw=b"\x00\xff", filename="a.bin", media_type="application/octet-stream"))
    message.parts.append(Part(url="https://files.example/b.txt", filename="b.txt", media_type="text/plain"))
    assert (await ask(server, message))["files"] == [
        {"name": "a.bin", "media_type": "application/octet-stream", "content": "AP8="},
        {"name": "b.txt", "media_type": "text/plain", "url": "https://files.example/b.txt"},
    ]
    message.metadata["skill"] = "writer"
    with pytest.raises(ContentTypeNotSupportedError):
        await ask(server, message)


async def test_cards_are_signed(server: Server) -> None:
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    known: list[str | None] = []

    def key_of(key_id: str | None, key_url: str | None) -> bytes:
        known.append(key_id)
        return public

    verify = create_signature_verifier(key_of, ["ES256"])
    async with httpx.AsyncClient() as http:
        card = await A2ACardResolver(http, server.url).get_agent_card(signature_verifier=verify)
        assert known == ["k1"]
        card.name = "somebody else"
        with pytest.raises(InvalidSignaturesError):
            verify(card)

    async with connected(server.url, "JSONRPC", "1.0") as client:
        verify(await client.get_extended_agent_card(GetExtendedAgentCardRequest()))
