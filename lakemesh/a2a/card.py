"""The agent card: the agents as skills."""

from collections.abc import Sequence
from typing import Any

from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from lakemesh import __version__
from lakemesh.config.a2a import A2aConfig
from lakemesh.engine.registry import AgentDescription

MODES = ("application/json", "text/plain")
SCHEMAS_URI = "urn:lakemesh:skill-schemas:1"
INTERFACES = (
    ("JSONRPC", "/a2a/rpc", "1.0"),
    ("HTTP+JSON", "/a2a", "1.0"),
    ("JSONRPC", "/a2a/rpc", "0.3"),
    ("HTTP+JSON", "/a2a", "0.3"),
)


def make_card(agents: Sequence[AgentDescription], *, base_url: str, requires_token: bool) -> AgentCard:
    card = AgentCard(
        name="lakemesh",
        description="Agents on the lakehouse. Name a skill in the message's metadata as 'skill'.",
        version=__version__,
        supported_interfaces=[
            AgentInterface(url=base_url + path, protocol_binding=binding, protocol_version=version)
            for binding, path, version in INTERFACES
        ],
        capabilities=AgentCapabilities(
            streaming=True, push_notifications=True, extended_agent_card=True, extensions=[schemas_of(agents)]
        ),
        default_input_modes=MODES,
        default_output_modes=MODES,
        skills=[skill_of(agent) for agent in agents],
    )
    if requires_token:
        scheme = SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="bearer"))
        card.security_schemes["bearer"].CopyFrom(scheme)
        card.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    return card


def schemas_of(agents: Sequence[AgentDescription]) -> AgentExtension:
    """The JSON schemas of what the skills take and give, by skill, which the protocol has no place for."""
    schemas = {agent.name: {"input": agent.input_schema, "output": agent.output_schema} for agent in agents}
    return AgentExtension(
        uri=SCHEMAS_URI,
        description="JSON schemas of each skill's input and output",
        params=ParseDict(schemas, Struct()),
    )


def skill_of(agent: AgentDescription) -> AgentSkill:
    return AgentSkill(id=agent.name, name=agent.name, description=agent.description or agent.name, tags=["lakemesh"])


def sign(card: AgentCard, config: A2aConfig) -> AgentCard:
    """The card with its signature (A2A 1.0, section 8.4: JWS over canonical JSON), where a key is configured."""
    if config.signing_key is None:
        return card
    from a2a.utils.signing import create_agent_card_signer

    header: Any = {"alg": "ES256", "typ": "JOSE", "kid": config.signing_key_id, "jku": None}
    return create_agent_card_signer(config.signing_key, header)(card)
